//! When a file that changes on disk may be read: not while somebody is at writing it. Values in, values out.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file of which nobody told how it was written is whole once it holds still for so long.
const STILL: Duration = Duration::from_secs(2);
/// A file that somebody still has open for writing, and does not write, is taken as it is after so long.
const LEFT_OPEN: Duration = Duration::from_secs(30);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Print {
    /// Of what the path leads to; nothing where that is nothing.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|about| Self::from(&about))
    }
}

impl From<&Metadata> for Print {
    fn from(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// What the kernel told of the file since it was last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Somebody wrote to it, and nobody has closed it since.
    pub(crate) is_open: bool,
    /// It was closed after a write, or another was put in its place whole.
    pub(crate) is_whole: bool,
}

/// Of one file.
#[derive(Debug)]
pub(crate) struct Settling {
    /// What was last handed on to be read.
    handed: Option<Print>,
    /// What is there now, and since when.
    seen: Option<(Print, Instant)>,
    is_open: bool,
}

impl Settling {
    /// `read`: the file as it was read last.
    pub(crate) fn new(read: Option<Print>) -> Self {
        Self { handed: read, seen: None, is_open: false }
    }

    /// Takes in what was told since the last time, and what is there. Whether it is to be read now.
    pub(crate) fn look(&mut self, told: Told, print: Option<Print>, now: Instant) -> bool {
        let Some(print) = print.filter(|print| Some(*print) != self.handed) else {
            // A file that is gone is nothing that could be read; what comes in its place is.
            self.seen = None;
            return false;
        };
        let before = self.seen.filter(|(seen, _)| *seen == print);
        let (_, since) = *self.seen.insert(before.unwrap_or((print, now)));
        self.is_open = told.is_open;
        let is_ready = told.is_whole || now.saturating_duration_since(since) >= self.patience();
        if is_ready {
            (self.handed, self.seen) = (Some(print), None);
        }
        is_ready
    }

    /// How long it must hold still.
    fn patience(&self) -> Duration {
        if self.is_open { LEFT_OPEN } else { STILL }
    }

    /// When to look again, whatever is told until then.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.seen.map(|(_, since)| since + self.patience())
    }

    /// The file is known not to be what runs, although nothing refused it: it is handed on once more.
    pub(crate) fn suspect(&mut self) {
        self.handed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Told = Told { is_open: false, is_whole: false };
    const WRITTEN: Told = Told { is_open: true, is_whole: false };
    const CLOSED: Told = Told { is_open: false, is_whole: true };

    fn print(inode: u64, size: u64) -> Option<Print> {
        Some(Print { device: 1, inode, size, modified: (0, 0), changed: (0, 0) })
    }

    fn start() -> (Settling, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        (Settling::new(print(1, 100)), move |millis| began + Duration::from_millis(millis))
    }

    #[test]
    fn what_was_closed_or_put_in_place_whole_is_read_at_once() {
        let (mut file, at) = start();
        assert!(!file.look(CLOSED, print(1, 100), at(0)), "the same file");
        assert!(file.look(CLOSED, print(1, 120), at(10)));
        assert!(!file.look(QUIET, print(1, 120), at(20)), "once");
        assert!(file.look(CLOSED, print(2, 100), at(30)), "another by a rename");
    }

    #[test]
    fn a_writer_that_pauses_is_waited_for() {
        let (mut file, at) = start();
        assert!(!file.look(WRITTEN, print(1, 0), at(0)));
        assert!(!file.look(WRITTEN, print(1, 60), at(10)));
        for later in [310, 2_500, 20_000] {
            assert!(!file.look(WRITTEN, print(1, 60), at(later)), "half of it, after {later} ms");
        }
        assert!(file.look(CLOSED, print(1, 120), at(20_100)));
        // Who never closes it is not waited for without end.
        assert!(!file.look(WRITTEN, print(1, 130), at(21_000)));
        assert_eq!(file.due(), Some(at(51_000)));
        assert!(file.look(WRITTEN, print(1, 130), at(51_000)));
    }

    #[test]
    fn where_nothing_is_told_it_must_hold_still() {
        let (mut file, at) = start();
        assert!(!file.look(QUIET, print(1, 40), at(0)));
        assert!(!file.look(QUIET, print(1, 80), at(1_900)), "it still grows");
        assert_eq!(file.due(), Some(at(3_900)));
        assert!(!file.look(QUIET, print(1, 80), at(3_800)));
        assert!(file.look(QUIET, print(1, 80), at(3_900)));
        assert_eq!(file.due(), None);
    }

    #[test]
    fn what_is_gone_is_not_read_and_what_comes_back_is() {
        let (mut file, at) = start();
        assert!(!file.look(QUIET, None, at(0)) && !file.look(QUIET, None, at(60_000)));
        assert!(!file.look(QUIET, print(2, 100), at(61_000)));
        assert!(file.look(QUIET, print(2, 100), at(63_000)));
    }

    #[test]
    fn a_close_tells_of_the_state_that_it_left_and_of_no_other() {
        let (mut file, at) = start();
        assert!(file.look(CLOSED, print(1, 50), at(0)));
        assert!(!file.look(QUIET, print(1, 60), at(10)), "a change that nobody told of");
    }

    #[test]
    fn what_differs_although_it_was_read_is_read_again() {
        let (mut file, at) = start();
        file.suspect();
        assert!(!file.look(QUIET, print(1, 100), at(0)));
        assert!(file.look(QUIET, print(1, 100), at(2_000)));
    }
}
