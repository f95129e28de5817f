//! Inputs and what they become, kept as files: `UPDATE_GOLDEN=1 cargo test import` writes them again.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Imported, Options, Origin, import, report};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/golden")
}

fn options() -> Options {
    Options { interfaces: Vec::new(), seed: 0x1234_5678_9abc_def0 }
}

/// Every input with its origin.
fn inputs() -> Vec<(PathBuf, Origin)> {
    let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let origin = |path: &Path| match path.extension()?.to_str()? {
        "ipvsadm" => Some(Origin::Ipvsadm),
        "conf" => Some(Origin::Keepalived),
        _ => None,
    };
    let mut inputs: Vec<_> = files.filter_map(|path| Some((path.clone(), origin(&path)?))).collect();
    inputs.sort_by(|a, b| a.0.cmp(&b.0));
    inputs
}

/// With the directory of this checkout left out.
fn imported(path: &Path, origin: Origin) -> Result<Imported, String> {
    let text = std::fs::read_to_string(path).unwrap();
    import(origin, &path.display().to_string(), &text, &options()).map_err(|error| error.to_string())
}

#[test]
fn inputs_become_what_they_should() {
    let inputs = inputs();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    for (path, origin) in inputs {
        let mut said = String::new();
        match imported(&path, origin) {
            Ok(imported) => {
                let _ = write!(said, "{}\n--------\n{}", imported.config, report(&imported));
            }
            Err(error) => said = format!("balancer: {error}\n"),
        }
        let said = said.replace(&format!("{}/", directory().display()), "");
        let golden = path.with_extension("out");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let kept = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(kept == said, "{} is not what comes out now; look at it with UPDATE_GOLDEN=1", golden.display());
    }
}

#[test]
fn every_line_that_is_not_known_is_listed() {
    for (path, origin) in inputs() {
        let Ok(before) = imported(&path, origin) else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for at in 0..=lines.len() {
            // A line that goes on is no place for a statement.
            if at > 0 && lines[at - 1].ends_with('\\') {
                continue;
            }
            let mut more = lines.clone();
            more.insert(at, "frobnicate 7");
            let after = import(origin, &path.display().to_string(), &more.join("\n"), &options()).unwrap();
            let there = after.remarks.iter().any(|remark| {
                remark.text.contains("frobnicate 7") && remark.at.line == at + 1
                    || remark.text.contains("statement") && remark.at.line <= at + 1
            });
            assert!(there, "{}: {} is not listed", path.display(), at + 1);
            assert_eq!(after.services.len(), before.services.len(), "{}:{}", path.display(), at + 1);
        }
    }
}

#[test]
fn what_is_taken_is_a_config_that_the_reader_takes() {
    for (path, origin) in inputs() {
        let Ok(imported) = imported(&path, origin) else { continue };
        let read = crate::spec::parse("new.toml", &imported.config);
        assert_eq!(read.is_ok(), imported.errors.is_empty(), "{}: {:?}", path.display(), imported.errors);
    }
}

#[test]
fn no_input_of_any_bytes_is_a_panic() {
    use proptest::prelude::*;
    let word = prop_oneof![
        Just("virtual_server".to_owned()),
        Just("real_server".to_owned()),
        Just("{".to_owned()),
        Just("}\n".to_owned()),
        Just("10.0.0.1:80".to_owned()),
        Just("192.0.2.1-300 80".to_owned()),
        Just("-A -t".to_owned()),
        Just("-a -r".to_owned()),
        Just("\n".to_owned()),
        Just("$A=$A".to_owned()),
        Just("delay_loop -1e300".to_owned()),
        Just("weight 4294967295".to_owned()),
        "\\PC{0,12}",
    ];
    let mut runner = proptest::test_runner::TestRunner::default();
    let words = proptest::collection::vec(word, 0..40);
    let outcome = runner.run(&words, |words| {
        let text = words.join(" ");
        for origin in [Origin::Ipvsadm, Origin::Keepalived] {
            let _ = import(origin, "x", &text, &options());
        }
        Ok(())
    });
    outcome.unwrap();
}
