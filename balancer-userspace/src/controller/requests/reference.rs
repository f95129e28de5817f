//! docs/api.md is written from the list: `UPDATE_GOLDEN=1 cargo test every_request_is_in_the_reference` writes it again.

use std::fmt::Write;
use std::path::Path;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::request::{Method, PREFIX, Request};
use super::{Visit, each};

const HEAD: &str = "\
# Control socket

`node.control_socket` speaks HTTP/1.1 with JSON. It is what every `balancer` command uses, and may be used by anything else:

```
curl --unix-socket /run/balancer/control.sock http://balancer/v1/status
```

Fields of a GET are its query, those of a POST a JSON object; an unknown field is refused. Who asks is known by the kernel
(`SO_PEERCRED`), and is in the log and in the history with every change. [`[control]`](config.md#control) says who may ask, and who
may change something. Files that a config names are read with the rights of who sent it.

| status | meaning |
| --- | --- |
| 200 | done; the body is the answer |
| 400 | the request can't be understood |
| 403 | `[control]` of the config does not let the caller do this |
| 404 | there is no such path, service, backend or generation |
| 405 | the path takes another method |
| 409 | refused: the request can't be done as asked |
| 413 | the request is too large |
| 500 | it should have worked and did not; `error` says what is in force |
| 503 | the controller is stopping |

Every answer but 200 is `{\"error\": \"...\", \"code\": \"...\"}`. Where a config is why, `findings` lists what is wrong with it, the worst
100, each with `id`, `severity`, `subject`, `file`, `line`, `column`, `message` and `help`; `more_findings` counts the others.

";

#[derive(Default)]
struct Reference {
    table: String,
    details: String,
}

impl Visit for Reference {
    fn visit<R: Request>(&mut self) {
        let (method, path) = (R::METHOD.as_str(), R::PATH);
        let changes = if R::CHANGES { "yes" } else { "" };
        let _ = writeln!(self.table, "| `{method} {PREFIX}{path}` | {} | {changes} |", R::MEANS);
        if R::FIELDS.is_empty() {
            return;
        }
        let _ = writeln!(self.details, "\n### `{method} {PREFIX}{path}`\n\n| field | |\n| --- | --- |");
        for (name, means) in R::FIELDS {
            let _ = writeln!(self.details, "| `{name}` | {means} |");
        }
    }
}

#[test]
fn every_request_is_in_the_reference() {
    let mut reference = Reference::default();
    each(&mut reference);
    let Reference { table, details } = reference;
    let wanted = format!("{HEAD}| request | what it does | changes something |\n| --- | --- | --- |\n{table}{details}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == wanted, "docs/api.md is not what the list says; run this test with UPDATE_GOLDEN=1");
}

#[test]
fn fields_are_described_as_they_are_read() {
    struct Fields;
    impl Visit for Fields {
        fn visit<R: Request>(&mut self) {
            let described: Vec<&str> = R::FIELDS.iter().map(|(name, _)| *name).collect();
            assert_eq!(fields::<R>(), described, "{}", R::PATH);
        }
    }
    each(&mut Fields);
}

#[test]
fn every_request_has_a_place_of_its_own_and_changes_are_logged() {
    #[derive(Default)]
    struct Places(Vec<(&'static str, Method)>);
    impl Visit for Places {
        fn visit<R: Request>(&mut self) {
            let place = (R::PATH, R::METHOD);
            assert!(!self.0.contains(&place), "two requests are at {place:?}");
            assert!(!R::CHANGES || R::METHOD == Method::Post, "{} changes something by GET", R::PATH);
            // A change without fields can be made here, and says what it is.
            if let (true, Ok(request)) = (R::CHANGES, serde_json::from_str::<R>("{}")) {
                assert!(request.said().is_some(), "{} is not logged", R::PATH);
            }
            self.0.push(place);
        }
    }
    each(&mut Places::default());
}

/// The names that a struct's derived reading asks for.
fn fields<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Names<'a>(&'a mut Vec<&'static str>);
    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            names: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0.extend(names);
            Err(serde::de::Error::custom("only names are wanted"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
            seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut names = Vec::new();
    let _ = T::deserialize(Names(&mut names));
    names
}
