//! One interval of the profile, and its bytes: serde's postcard, whose numbers take as many bytes as they need, in frames
//! of COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1997) between zeros. A frame that was cut off ends at
//! the next zero, so that those behind it are read; a length before each frame would lose them.
//!
//! A day of one busy service, 10,000 new flows a second and a record each minute, takes 179 KiB, and one of 100 new flows a
//! second 134 KiB; a service without new flows takes nothing. Services times days times this is what the disk must hold.

use balancer_common::slot::GROUPS;
use serde::{Deserialize, Serialize};

use crate::model::ServiceName;

/// New flows of all services in one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// In seconds since the Unix epoch.
    pub start: u64,
    /// How long it really took.
    pub millis: u32,
    /// Only those with new flows.
    pub services: Vec<Flows>,
}

/// New flows of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub service: ServiceName,
    /// Which flow had which slot, see [`crate::plan::mapping`]; [`MIXED`] where that changed meanwhile.
    pub mapping: u32,
    /// By group of slots, all backends together.
    pub groups: [u32; GROUPS],
}

/// The mapping of nobody.
pub const MIXED: u32 = 0;

/// What stands in a file. A later layout is another variant, so that older files can still be read.
#[derive(Serialize, Deserialize)]
enum Frame<R> {
    One(R),
}

/// The bytes to append to a file.
///
/// # Errors
/// None of a record as it stands here; serde can't know.
pub fn encode(record: &Record) -> Result<Vec<u8>, postcard::Error> {
    // The zero in front ends what a crash may have left.
    let mut bytes = vec![0];
    bytes.extend(postcard::to_allocvec_cobs(&Frame::One(record))?);
    Ok(bytes)
}

/// The records of a file, and how many frames in it were no record.
pub fn decode(bytes: &[u8]) -> (Vec<Record>, usize) {
    let mut broken = 0;
    let frames = bytes.split(|byte| *byte == 0).filter(|frame| !frame.is_empty());
    let records = frames.filter_map(|frame| match postcard::from_bytes_cobs(&mut frame.to_vec()) {
        Ok(Frame::One(record)) => Some(record),
        Err(_) => {
            broken += 1;
            None
        }
    });
    (records.collect(), broken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flows() -> impl Strategy<Value = Flows> {
        let number = prop_oneof![Just(0u32), 0..300u32, any::<u32>()];
        ("[a-z][a-z0-9.-]{0,20}", any::<u32>(), prop::collection::vec(number, GROUPS)).prop_map(
            |(name, mapping, groups)| Flows {
                service: name.parse().unwrap(),
                mapping,
                groups: groups.try_into().unwrap(),
            },
        )
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (any::<u64>(), any::<u32>(), prop::collection::vec(flows(), 0..6));
        let record = record.prop_map(|(start, millis, services)| Record { start, millis, services });
        prop::collection::vec(record, 1..6)
    }

    fn file(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(|record| encode(record).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in records()) {
            prop_assert_eq!(decode(&file(&records)), (records, 0));
        }

        /// A crash cuts one record off anywhere, and the next controller goes on behind it.
        #[test]
        fn a_record_that_is_cut_off_costs_no_other(
            before in records(),
            cut in records(),
            after in records(),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = encode(&cut[0]).unwrap();
            // All but the zero at the end is the whole record.
            let left = at.index(whole.len() - 1);
            let bytes = [file(&before), whole[..left].to_vec(), file(&after)].concat();
            let wanted: Vec<Record> = before.into_iter().chain(after).collect();
            prop_assert_eq!(decode(&bytes), (wanted, usize::from(left > 1)));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            decode(&bytes);
        }
    }

    /// What the comment on top says.
    #[test]
    fn a_day_of_a_busy_service_is_small() {
        let day = |per_second: u32| -> usize {
            let record = |minute: u64| Record {
                start: 1_800_000_000 + minute * 60,
                millis: 60_001,
                services: vec![Flows {
                    service: "web-frontend".parse().unwrap(),
                    mapping: 0xdead_beef,
                    groups: [per_second * 60 / 32; GROUPS],
                }],
            };
            (0..1440).map(|minute| encode(&record(minute)).unwrap().len()).sum()
        };
        let kib = |bytes: usize| (bytes + 512) / 1024;
        assert_eq!((kib(day(10_000)), kib(day(100))), (179, 134));
    }
}
