//! Files of this crate know each other in one direction. What a file knows is read from its paths: `use` declarations, and paths
//! that begin with `crate::`, `super::`, `self::` or with the name of a module below it. A method that calls another one of its
//! type knows the file where that one is. Tests may know anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// A module: its path, such as `controller::desired`, and its code without comments and tests.
type Sources = BTreeMap<String, String>;

fn sources() -> Sources {
    let mut found = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    // Modules of tests.
    let tests: Vec<String> = found.iter().flat_map(|(module, code)| test_modules(module, code)).collect();
    let is_of = |module: &str, test: &String| module == test || module.starts_with(&format!("{test}::"));
    found.retain(|module, _| !tests.iter().any(|test| is_of(module, test)));
    found.into_iter().map(|(module, code)| (module, without_tests(&code))).collect()
}

fn read(directory: &Path, module: &str, found: &mut Sources) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            read(&path, &below(module, stem), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "main" {
            let is_own = matches!(stem, "mod" | "lib");
            let name = if is_own { module.to_owned() } else { below(module, stem) };
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn below(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn test_modules(module: &str, code: &str) -> Vec<String> {
    let declared = code.split("#[cfg(test)]\nmod ").skip(1);
    let names = declared.filter_map(|rest| rest.split_once([';', ' ']).filter(|(name, _)| !name.contains('\n')));
    names.map(|(name, _)| below(module, name)).collect()
}

fn without_tests(code: &str) -> String {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Who knows whom.
fn graph(sources: &Sources) -> Graph {
    let methods = methods(sources);
    let knows = |(module, code): (&String, &String)| {
        let known = paths(code).into_iter().filter_map(|path| resolved(&path, module, sources));
        let called = blocks(code).flat_map(|(of, block)| calls(block).map(move |name| (of, name)));
        let called = called.filter_map(|method| methods.get(&method).map(|module| (*module).clone()));
        (module.clone(), known.chain(called).filter(|other| other != module).collect())
    };
    sources.iter().map(knows).collect()
}

/// Where the methods of each type are; none that a type has twice.
fn methods(sources: &Sources) -> BTreeMap<(&str, &str), &String> {
    let (mut found, mut twice) = (BTreeMap::new(), BTreeSet::new());
    for (module, code) in sources {
        for (of, block) in blocks(code) {
            let lines = block.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
            for name in lines.filter_map(|line| name_at(line.split_once("fn ")?.1)) {
                if found.insert((of, name), module).is_some() {
                    twice.insert((of, name));
                }
            }
        }
    }
    found.retain(|method, _| !twice.contains(method));
    found
}

/// Each `impl` of a type without parameters, and what is in it.
fn blocks(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let blocks = code.split("\nimpl ").skip(1).filter_map(|rest| rest.split_once(" {\n"));
    let blocks = blocks.filter(|(of, _)| of.chars().all(is_name));
    blocks.map(|(of, rest)| (of, rest.split("\n}").next().unwrap_or_default()))
}

/// Methods that are called on `self`.
fn calls(block: &str) -> impl Iterator<Item = &str> {
    let after = block.split("self").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('.'));
    after.filter_map(|rest| name_at(rest).filter(|name| rest[name.len()..].starts_with('(')))
}

fn name_at(code: &str) -> Option<&str> {
    let end = code.find(|letter| !is_name(letter)).unwrap_or(code.len());
    (end > 0).then(|| &code[..end])
}

/// Every path in the code, those of trees of `use` spread out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = code;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if is_name(first) && !is_name(before) && before != ':' && before != '.' {
            let (path, left) = tree(rest);
            found.extend(path);
            before = 'a';
            rest = left;
        } else {
            before = first;
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The paths that begin here, and what comes after them.
fn tree(code: &str) -> (Vec<Vec<String>>, &str) {
    let (name, rest) = code.split_at(name_at(code).map_or(0, str::len));
    let Some(mut rest) = rest.strip_prefix("::") else { return (vec![vec![name.to_owned()]], rest) };
    let mut ends = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') && !rest.is_empty() {
            let (paths, left) = tree(rest);
            ends.extend(paths);
            // A name of its own, and the comma.
            rest = left
                .trim_start_matches(|letter: char| letter != ',' && letter != '}')
                .trim_start_matches(',')
                .trim_start();
        }
        rest = rest.strip_prefix('}').unwrap_or(rest);
    } else if rest.starts_with(is_name) {
        (ends, rest) = tree(rest);
    } else {
        ends.push(Vec::new());
    }
    let whole = ends.into_iter().map(|end| [vec![name.to_owned()], end].concat());
    (whole.collect(), rest)
}

/// The module that a path in `module` leads to, as far as there are files.
fn resolved(path: &[String], module: &str, sources: &Sources) -> Option<String> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return None;
    }
    let mut at = match first.as_str() {
        "crate" => String::new(),
        "self" => module.to_owned(),
        "super" => parent(module),
        name => Some(below(module, name)).filter(|child| sources.contains_key(child))?,
    };
    for name in rest {
        let next = if name == "super" { parent(&at) } else { below(&at, name) };
        if !sources.contains_key(&next) {
            break;
        }
        at = next;
    }
    // What the crate's root declares are its modules.
    (!at.is_empty()).then_some(at)
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map_or_else(String::new, |(parent, _)| parent.to_owned())
}

/// Groups in which each knows all others, by whatever way.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = graph.keys().map(|from| (from, reached(graph, from))).collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for (module, there) in reached.iter().filter(|(module, there)| there.contains(*module)) {
        if !found.iter().flatten().any(|known| known == *module) {
            let same = there.iter().filter(|other| reached.get(**other).is_some_and(|back| back.contains(*module)));
            found.push(same.map(|other| (*other).clone()).collect());
        }
    }
    found
}

fn reached<'a>(graph: &'a Graph, from: &String) -> BTreeSet<&'a String> {
    let (mut there, mut next) = (BTreeSet::new(), graph.get(from).into_iter().flatten().collect::<Vec<_>>());
    while let Some(module) = next.pop() {
        if there.insert(module) {
            next.extend(graph.get(module).into_iter().flatten());
        }
    }
    there
}

/// The graph of what `group` says of each module; none where a module is left out.
fn grouped(graph: &Graph, group: impl Fn(&str) -> Option<String>) -> Graph {
    let mut groups = Graph::new();
    for (module, known) in graph {
        let Some(from) = group(module) else { continue };
        let known = known.iter().filter_map(|to| group(to)).filter(|to| *to != from);
        groups.entry(from.clone()).or_default().extend(known);
    }
    groups
}

#[test]
fn a_circle_is_found() {
    let of = |files: &[(&str, &str)]| -> Sources {
        files.iter().map(|(module, code)| ((*module).to_owned(), without_tests(code))).collect()
    };
    let one = of(&[
        ("a", "use crate::b::{self, Thing, c::{Other as O, More}};"),
        ("b", "mod c;\npub struct Thing;\n// crate::a\n#[cfg(test)]\nmod tests {\n use crate::a;\n}"),
        ("b::c", "fn of(x: super::Thing) {}"),
    ]);
    assert_eq!(circles(&graph(&one)), Vec::<Vec<String>>::new());
    assert_eq!(graph(&one)["a"], ["b", "b::c"].map(str::to_owned).into());
    let inner = of(&[("b", "mod c;\nfn f() { c::g() }"), ("b::c", "use super::Thing;")]);
    assert_eq!(circles(&graph(&inner)), [["b", "b::c"]]);
    let long = of(&[("a", "use crate::b::B;"), ("b", "fn f(c: crate::c::C) {}"), ("c", "use crate::a::A;")]);
    assert_eq!(circles(&graph(&long)), [["a", "b", "c"]]);
    let methods = of(&[
        ("s", "pub struct S;"),
        ("a", "use crate::s::S;\nimpl S {\n    fn one(&self) {\n        self.two();\n    }\n}"),
        (
            "b",
            "use crate::s::S;\nimpl S {\n    pub(crate) fn two(&self) {\n        self\n            .one();\n    }\n}",
        ),
    ]);
    assert_eq!(circles(&graph(&methods)), [["a", "b"]]);
}

#[test]
fn there_is_no_circle_of_files_in_the_controller() {
    let controller = |module: &str| module.starts_with("controller").then(|| module.to_owned());
    let graph = grouped(&graph(&sources()), controller);
    assert!(graph.len() > 50, "{} files were read", graph.len());
    assert_eq!(circles(&graph), Vec::<Vec<String>>::new());
}

#[test]
fn there_is_no_circle_of_rooms_in_the_controller() {
    // A folder with its files is a room, and so is each file beside the folders.
    let room = |module: &str| {
        let (first, rest) = module.split_once("::")?;
        (first == "controller").then(|| rest.split("::").next().unwrap_or_default().to_owned())
    };
    let rooms = grouped(&graph(&sources()), room);
    assert_eq!(circles(&rooms), Vec::<Vec<String>>::new());
    // A step of the kernel gets plain values.
    for one in ["desired", "observed", "kernel"] {
        for other in ["desired", "observed", "kernel", "watch", "state"] {
            assert!(!rooms[one].contains(other), "{one} knows {other}");
        }
    }
}
