//! What tables cost, held against what they are for.

use super::{Kind, Lint};
use crate::model::{Service, TableSize};
use crate::spec::diagnostic::Span;
use crate::spec::service::Read;

/// Slots for each backend. With as many a share is exact to 1 %, and a backend that goes moves hardly more than its own slots.
const ENOUGH: usize = 100;
/// For each backend; more make no share better that anybody could measure.
const NO_USE: usize = 10_000;
/// In kernel memory; twice that while a table is replaced.
const BYTES_OF_A_SLOT: u64 = 4;
/// Of all tables together.
const MUCH_BYTES: u64 = 1 << 30;

pub(super) fn check(lint: &Lint<'_>) {
    for (service, read) in lint.services().filter(|(service, _)| !service.backends.is_empty()) {
        size(lint, service, read);
    }
    all(lint);
}

fn place(read: &Read) -> Span {
    read.table_size.as_ref().map_or(read.span.clone(), |size| size.span.clone())
}

/// The smallest that is enough.
fn enough(service: &Service) -> TableSize {
    TableSize::at_least(u32::try_from(service.backends.len() * ENOUGH).unwrap_or(u32::MAX))
}

fn size(lint: &Lint<'_>, service: &Service, read: &Read) {
    let (size, backends, enough) = (service.table_size, service.backends.len(), enough(service));
    let each = size.get() as usize / backends;
    if each < ENOUGH && size < enough {
        let message = format!("the table of {} has {each} slots for each of its {backends} backends", service.name);
        let help = format!(
            "one slot is {} of a backend's share, and a change moves more flows than it must; `table_size = {}`",
            super::percent(backends as f64 / f64::from(size.get())),
            enough.get()
        );
        lint.about_service(Kind::TableSize, service, place(read), message, &help);
    } else if each > NO_USE && size > TableSize::DEFAULT {
        let message = format!("the table of {} has {each} slots for each of its {backends} backends", service.name);
        let help = format!(
            "each change of a weight computes and writes all of them, {:.1} MB; {} would do",
            megabytes(u64::from(size.get())),
            enough.max(TableSize::DEFAULT).get()
        );
        lint.about_service(Kind::TableSize, service, place(read), message, &help);
    }
}

fn all(lint: &Lint<'_>) {
    let slots: u64 = lint.services().map(|(service, _)| u64::from(service.table_size.get())).sum();
    let needed: u64 = lint.services().map(|(service, _)| u64::from(enough(service).get())).sum();
    let Some((_, first)) = lint.services().next() else { return };
    if slots * BYTES_OF_A_SLOT > MUCH_BYTES && needed * 2 < slots {
        let message = format!(
            "the tables of {} services take {:.0} MB of kernel memory, and twice that while all of them are replaced",
            lint.models.len(),
            megabytes(slots)
        );
        let help = format!(
            "a smaller `table_size` where a service has few backends: with {ENOUGH} slots for each backend they take {:.0} MB",
            megabytes(needed)
        );
        lint.problems.add(Kind::TableSize, place(first), message, help);
    }
}

fn megabytes(slots: u64) -> f64 {
    (slots * BYTES_OF_A_SLOT) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::spec::{self, lint::Host};

    fn said(services: usize, backends: usize, table_size: u32) -> Vec<String> {
        let mut text = String::from("[node]\nseed = 7\n[[interface]]\nname = \"eth0\"\n[limits]\nservices = 20000\n");
        for service in 0..services {
            text += &format!(
                "[[service]]\nname = \"s{service}\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = {}\n\
                 forward = \"l2\"\ntable_size = {table_size}\n",
                1 + service
            );
            for backend in 0..backends {
                let (high, low) = (backend / 250, 1 + backend % 250);
                text += &format!("[[service.backend]]\nname = \"b{backend}\"\naddress = \"10.0.{high}.{low}\"\n");
            }
        }
        let loaded = spec::read("f.toml", text, Path::new("")).unwrap_or_else(|problems| panic!("{problems}"));
        let found = loaded.findings(&Host::default()).findings;
        found.into_iter().filter(|finding| finding.id == "BAL034").map(|f| f.message + "; " + &f.help).collect()
    }

    #[test]
    fn a_table_fits_the_number_of_backends() {
        assert!(said(1, 2, 211)[..].is_empty() && said(1, 655, 65_537).is_empty() && said(1, 2, 65_537).is_empty());
        let few = said(1, 40, 101);
        assert!(
            few.len() == 1 && few[0].contains("has 2 slots for each of its 40") && few[0].contains("= 4001"),
            "{few:?}"
        );
        let many = said(1, 2, 1_048_573);
        assert!(many.len() == 1 && many[0].contains("4.2 MB; 65537 would do"), "{many:?}");
        assert!(said(1, 200, 1_048_573).is_empty());
    }

    #[test]
    fn all_tables_fit_the_memory() {
        let all = said(5_000, 2, 65_537);
        assert!(all.len() == 1 && all[0].contains("take 1311 MB") && all[0].contains("they take 4 MB"), "{all:?}");
        assert!(said(1_000, 2, 65_537).is_empty());
    }
}
