//! As much Markdown as docs/config.md has, as a page of the manual: headings, paragraphs, tables, lists, code.

/// The page: `title` is what follows `.TH`, `name` its line for apropos; the text's own first heading goes.
pub(super) fn page(title: &str, name: &str, text: &str) -> String {
    let mut page =
        format!(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {title}\n.ad l\n.SH NAME\n{name}\n.SH DESCRIPTION\n");
    let mut rows = Vec::new();
    let mut code = false;
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        if let Some(row) = line.strip_prefix('|').filter(|_| !code) {
            rows.push(cells(row));
            continue;
        }
        page += &table(&std::mem::take(&mut rows));
        if line.starts_with("```") {
            code = !code;
            page += if code { ".PP\n.RS 4\n.nf\n" } else { ".fi\n.RE\n.PP\n" };
        } else if code {
            page += &begun(&escaped(line));
            page.push('\n');
        } else {
            page += &outside(line);
        }
    }
    page + &table(&rows)
}

/// A line that is neither of a table nor of code.
fn outside(line: &str) -> String {
    let heading =
        |level: &str, text: &str| format!(".{level} {}\n", words(text).replace("\\fB", "").replace("\\fR", ""));
    if let Some(text) = line.strip_prefix("## ") {
        heading("SH", text)
    } else if let Some(text) = line.strip_prefix("### ") {
        heading("SS", text)
    } else if let Some(text) = line.strip_prefix("- ") {
        format!(".IP \\(bu 2\n{}\n", begun(&words(text)))
    } else if line.trim().is_empty() {
        ".PP\n".to_owned()
    } else {
        begun(&words(line.trim_start())) + "\n"
    }
}

/// Cells of a row, without the bar at its end; `\|` is a bar within one.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim_end().strip_suffix('|').unwrap_or(row).replace("\\|", "\u{0}");
    row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// Each row below the head as an entry: what is in the first column, then the others, each but the last with its heading.
fn table(rows: &[Vec<String>]) -> String {
    let [head, _, rows @ ..] = rows else { return String::new() };
    let mut out = String::new();
    for row in rows {
        let Some((key, others)) = row.split_first() else { continue };
        let (meaning, facts) = others.split_last().map_or(("", others), |(last, facts)| (last.as_str(), facts));
        out += &format!(".TP\n{}\n", begun(&words(key)));
        let facts: Vec<String> =
            head.iter().skip(1).zip(facts).filter(|(_, fact)| !fact.is_empty()).map(fact).collect();
        if !facts.is_empty() {
            out += &format!("{}.\n", begun(&facts.join("; ")));
        }
        out += &format!("{}\n", begun(&words(meaning)));
    }
    out + ".PP\n"
}

fn fact((heading, value): (&String, &String)) -> String {
    if heading == "default" { format!("default: {}", words(value)) } else { words(value) }
}

/// `code` in bold, a link as its text.
fn words(text: &str) -> String {
    let mut out = String::new();
    for (number, part) in text.split('`').enumerate() {
        if number % 2 == 1 {
            out += &format!("\\fB{}\\fR", escaped(part));
        } else {
            out += &escaped(&unlinked(&part.replace("**", "")));
        }
    }
    out
}

/// `[text](target)` is `text`. A link whose text is code is cut by its marks before it comes here: `[` and `](target)`.
fn unlinked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("](") {
        out += &rest[..at];
        let behind = &rest[at + 2..];
        rest = behind.find(')').map_or("", |end| &behind[end + 1..]);
        if let Some(open) = out.rfind('[') {
            out.remove(open);
        }
    }
    out += rest;
    // What a link with code in it began with.
    out.strip_suffix('[').map(str::to_owned).unwrap_or(out)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('…', "...").replace('→', "\\->")
}

/// A line that begins with a dot would be an instruction.
fn begun(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docs_are_made_of_becomes_a_page() {
        let text = "# Config\n\nOne file, see [the other](x.md#y).\n\n## `[node]`\n\n| key | type | default | meaning |\n\
                    | --- | --- | --- | --- |\n| `a_b` | word | `x\\|y` | see [`[q]`](z.md), not - that |\n\n- one\n  more\n\n\
                    ```toml\n[node]\n.x = 'y'\n```\n";
        let page = page("t 5", "t \\- it", text);
        let body = page.split_once(".SH DESCRIPTION\n").unwrap().1;
        assert_eq!(
            body,
            ".PP\nOne file, see the other.\n.PP\n.SH [node]\n.PP\n.TP\n\\fBa_b\\fR\nword; default: \\fBx|y\\fR.\n\
             see \\fB[q]\\fR, not \\- that\n.PP\n.PP\n.IP \\(bu 2\none\nmore\n.PP\n.PP\n.RS 4\n.nf\n[node]\n\\&.x = \\(aqy\\(aq\n\
             .fi\n.RE\n.PP\n"
        );
    }
}
