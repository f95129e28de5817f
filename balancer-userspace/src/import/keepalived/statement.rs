//! keepalived's config as statements and blocks, with where they stand; includes and definitions are followed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::import::{At, Remarks, Unreadable};
use crate::regular;

/// Files that include each other, at most: more are a circle.
const DEEPEST: usize = 8;
const LARGEST_BYTES: u64 = 16 << 20;

/// `words { block }`, or only words.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub at: At,
    pub words: Vec<String>,
    pub block: Vec<Statement>,
}

impl Statement {
    pub fn key(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub fn value(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }

    /// As an operator would know it again.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// Statements in it, itself included.
    pub fn size(&self) -> usize {
        1 + self.block.iter().map(Self::size).sum::<usize>()
    }
}

enum Token {
    Word(String),
    Open,
    Close,
    EndOfLine,
}

pub(super) struct Lexer<'a> {
    definitions: BTreeMap<String, String>,
    tokens: Vec<(At, Token)>,
    remarks: &'a mut Remarks,
}

/// Reads everything.
pub(super) fn read(file: &str, text: &str, remarks: &mut Remarks) -> Result<Vec<Statement>, Unreadable> {
    let mut lexer = Lexer { definitions: BTreeMap::new(), tokens: Vec::new(), remarks };
    lexer.file(file, text, 0)?;
    let mut tokens = lexer.tokens.into_iter().peekable();
    let statements = block(&mut tokens, None)?;
    Ok(statements)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<(At, Token)>>;

/// Statements up to the brace that closes the block which `opened` began.
fn block(tokens: &mut Tokens, opened: Option<&At>) -> Result<Vec<Statement>, Unreadable> {
    let mut statements: Vec<Statement> = Vec::new();
    // Whether the next word goes on with the last statement.
    let mut open = false;
    while let Some((at, token)) = tokens.next() {
        match token {
            Token::Word(word) => match statements.last_mut().filter(|_| open) {
                Some(last) => last.words.push(word),
                None => {
                    statements.push(Statement { at, words: vec![word], block: Vec::new() });
                    open = true;
                }
            },
            Token::EndOfLine => open = false,
            Token::Open => {
                let inside = block(tokens, Some(&at))?;
                match statements.last_mut() {
                    Some(last) => last.block.extend(inside),
                    None => return Err(Unreadable { at, what: "a block without a name".to_owned() }),
                }
                open = false;
            }
            Token::Close if opened.is_some() => return Ok(statements),
            Token::Close => {
                return Err(Unreadable { at, what: "this brace closes nothing that was opened".to_owned() });
            }
        }
    }
    match opened {
        Some(at) => Err(Unreadable { at: at.clone(), what: "the block that begins here is never closed".to_owned() }),
        None => Ok(statements),
    }
}

impl Lexer<'_> {
    fn file(&mut self, file: &str, text: &str, depth: usize) -> Result<(), Unreadable> {
        let mut lines = text.lines().enumerate();
        while let Some((i, line)) = lines.next() {
            let at = At { file: file.to_owned(), line: i + 1 };
            let mut line = line.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line += lines.next().map_or("", |(_, next)| next.trim_start());
            }
            self.line(&at, &line, depth)?;
        }
        Ok(())
    }

    fn line(&mut self, at: &At, line: &str, depth: usize) -> Result<(), Unreadable> {
        let line = self.substituted(line);
        let trimmed = line.trim();
        if let Some((name, value)) = definition(trimmed) {
            self.definitions.insert(name.to_owned(), value.trim().to_owned());
            return Ok(());
        }
        if trimmed.starts_with('@') {
            self.remarks.not_taken(at, trimmed, "it holds on some hosts only; import the file of one");
            return Ok(());
        }
        if trimmed.starts_with('~') || trimmed.contains("~SEQ") || trimmed.contains("~LST") {
            self.remarks.not_taken(at, trimmed, "sequences are not followed; write their lines out");
            return Ok(());
        }
        match trimmed.split_whitespace().collect::<Vec<_>>()[..] {
            ["include" | "includer" | "includem" | "includew" | "includeb" | "includea", pattern] => {
                self.include(at, trimmed, pattern.trim_matches('"'), depth)
            }
            _ => self.words(at, &line),
        }
    }

    /// With definitions in the place of `$NAME` and `${NAME}`.
    fn substituted(&self, line: &str) -> String {
        let mut line = line.to_owned();
        // The longest name first: $A is no part of $AB.
        for (name, value) in self.definitions.iter().rev() {
            line = line.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
        line
    }

    fn include(&mut self, at: &At, text: &str, pattern: &str, depth: usize) -> Result<(), Unreadable> {
        let directory = Path::new(&at.file).parent().unwrap_or(Path::new(""));
        let whole = directory.join(pattern);
        let paths = glob::glob(&whole.to_string_lossy()).into_iter().flatten().flatten();
        let mut paths: Vec<_> = paths.collect();
        paths.sort();
        if paths.is_empty() {
            self.remarks.not_taken(at, text, "there is no such file here");
        }
        for path in paths {
            match regular::text(&path, LARGEST_BYTES) {
                _ if depth == DEEPEST => self.remarks.not_taken(at, text, "files that include each other too deeply"),
                Ok(text) => self.file(&path.display().to_string(), &text, depth + 1)?,
                Err(error) => self.remarks.not_taken(at, text, format!("{error}")),
            }
        }
        Ok(())
    }

    fn words(&mut self, at: &At, line: &str) -> Result<(), Unreadable> {
        let mut word: Option<String> = None;
        let mut quoted = false;
        let mut push = |token| self.tokens.push((at.clone(), token));
        for c in line.chars() {
            match c {
                '"' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                _ if quoted => word.get_or_insert_default().push(c),
                '#' | '!' => break,
                '{' | '}' => {
                    word.take().map(Token::Word).map(&mut push);
                    push(if c == '{' { Token::Open } else { Token::Close });
                }
                c if c.is_whitespace() => {
                    word.take().map(Token::Word).map(&mut push);
                }
                c => word.get_or_insert_default().push(c),
            }
        }
        word.take().map(Token::Word).map(&mut push);
        push(Token::EndOfLine);
        match quoted {
            true => Err(Unreadable { at: at.clone(), what: "a quote that is never closed".to_owned() }),
            false => Ok(()),
        }
    }
}

/// `$NAME=VALUE`.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let name = name.trim();
    (!name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some((name, value))
}
