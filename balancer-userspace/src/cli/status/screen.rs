//! Lines with a tone each. Words say what colours say, so that nothing is lost without them.

use crate::printable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bold,
    Good,
    Warning,
    Bad,
    Faint,
}

impl Tone {
    /// Select Graphic Rendition, ECMA-48.
    pub fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Faint => "\x1b[2m",
        }
    }
}

/// What is printed, no line wider than `width` where words allow.
#[derive(Debug)]
pub(super) struct Screen {
    width: usize,
    lines: Vec<(Tone, String)>,
}

impl Screen {
    /// Narrower ones are filled as this one: a word must fit.
    const NARROWEST: usize = 20;

    pub fn new(width: usize) -> Self {
        Self { width: width.max(Self::NARROWEST), lines: Vec::new() }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn blank(&mut self) {
        if self.lines.last().is_some_and(|(_, last)| !last.is_empty()) {
            self.lines.push((Tone::Plain, String::new()));
        }
    }

    /// A line as it is.
    pub fn line(&mut self, tone: Tone, text: impl Into<String>) {
        self.lines.push((tone, text.into().trim_end().to_owned()));
    }

    /// Text that goes on in further lines, which begin with blanks.
    pub fn text(&mut self, tone: Tone, text: &str) {
        let text = printable::line(text);
        let indent = text.len() - text.trim_start().len();
        let (first, more) = (" ".repeat(indent), " ".repeat(indent + 2));
        let options = textwrap::Options::new(self.width).initial_indent(&first).subsequent_indent(&more);
        for line in textwrap::wrap(text.trim_start(), options) {
            self.line(tone, line);
        }
    }

    fn rendered(&self, coloured: bool) -> String {
        let mut out = String::new();
        for (tone, line) in &self.lines {
            let line = printable::line(line);
            if coloured && *tone != Tone::Plain {
                out += tone.code();
                out += &line;
                out += "\x1b[0m\n";
            } else {
                out += &line;
                out.push('\n');
            }
        }
        out
    }

    #[cfg(test)]
    pub fn plain(&self) -> String {
        self.rendered(false)
    }

    #[cfg(test)]
    pub fn coloured(&self) -> String {
        self.rendered(true)
    }
}

pub(super) fn print(screen: &Screen, coloured: bool) -> anyhow::Result<()> {
    crate::cli::write(&screen.rendered(coloured))
}
