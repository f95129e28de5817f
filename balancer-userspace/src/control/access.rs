//! Who may ask, and who may change something: by user and groups, as the kernel tells them of whoever is at the other end
//! of the socket.

use std::fmt::Write;
use std::os::fd::AsRawFd;

use nix::unistd::{Group, User};
use tokio::net::UnixStream;

use crate::controller::handle::Caller;
use crate::model::{ControlPolicy, Principal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Read,
    Change,
}

/// Whoever is at the other end.
pub(super) fn caller(stream: &UnixStream) -> Option<Caller> {
    let peer = stream.peer_cred().ok()?;
    let mut groups = further_groups(stream).unwrap_or_default();
    groups.push(peer.gid());
    Some(Caller { uid: peer.uid(), pid: peer.pid(), groups: groups.into() })
}

/// `SO_PEERGROUPS`: the supplementary groups when the connection was opened. The other end can't change them.
fn further_groups(stream: &UnixStream) -> Option<Vec<u32>> {
    /// `NGROUPS_MAX`.
    const MOST: usize = 65_536;
    let mut groups = vec![0u32; MOST];
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).ok()?;
    let fd = stream.as_raw_fd();
    // SAFETY: the descriptor is open as long as the stream; the buffer is as long as `bytes` says, of numbers without
    // forbidden values; the kernel writes whole ones and says in `bytes` how far.
    let outcome = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut bytes)
    };
    if outcome != 0 {
        return None;
    }
    groups.truncate(usize::try_from(bytes).ok()? / size_of::<u32>());
    Some(groups)
}

/// Numbers of users and groups.
pub(super) trait Directory {
    fn user(&self, name: &str) -> Option<u32>;
    fn group(&self, name: &str) -> Option<u32>;
}

/// This host's.
pub(super) struct Host;

impl Directory for Host {
    fn user(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| Some(User::from_name(name).ok()??.uid.as_raw()))
    }

    fn group(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| Some(Group::from_name(name).ok()??.gid.as_raw()))
    }
}

/// Root and the controller's own user may do everything.
///
/// # Errors
/// Who may, and how to become one of them.
pub(super) fn permit(
    policy: &ControlPolicy,
    caller: &Caller,
    level: Level,
    own_uid: u32,
    directory: &impl Directory,
) -> Result<(), String> {
    let uid = caller.uid;
    let is = |principal: &Principal| match principal {
        Principal::User(name) => directory.user(name) == Some(uid),
        Principal::Group(name) => directory.group(name).is_some_and(|gid| caller.groups.contains(&gid)),
    };
    let named = |list: &Option<Vec<Principal>>| list.iter().flatten().any(is);
    let open = match level {
        Level::Read => policy.read.is_none(),
        Level::Change => policy.read.is_none() && policy.change.is_none(),
    };
    if uid == 0 || uid == own_uid || open || named(&policy.change) || (level == Level::Read && named(&policy.read)) {
        return Ok(());
    }
    Err(denied(policy, uid, level))
}

fn denied(policy: &ControlPolicy, uid: u32, level: Level) -> String {
    let (what, keys, lists) = match level {
        Level::Read => ("ask the controller", "`control.read` and `control.change`", [&policy.read, &policy.change]),
        Level::Change => ("change anything", "`control.change`", [&None, &policy.change]),
    };
    let named: Vec<&Principal> = lists.iter().copied().flatten().flatten().collect();
    let mut said = format!("permission denied: uid {uid} may not {what}");
    let names = named.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "nobody but root".to_owned() } else { names };
    let _ = write!(said, "; {keys} of the config: {names}.");
    if let Some(group) = named.iter().find_map(|principal| match principal {
        Principal::Group(name) => Some(name),
        Principal::User(_) => None,
    }) {
        let _ = write!(
            said,
            "\nJoin the group (`sudo usermod -aG {group} $USER`, then log in again), or run this as root."
        );
    } else {
        said += "\nRun this as root (`sudo`).";
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Few;

    impl Directory for Few {
        fn user(&self, name: &str) -> Option<u32> {
            [("alice", 1001), ("bob", 1002)].iter().find(|(there, _)| *there == name).map(|(_, uid)| *uid)
        }

        fn group(&self, name: &str) -> Option<u32> {
            [("ops", 50), ("monitoring", 60)].iter().find(|(there, _)| *there == name).map(|(_, gid)| *gid)
        }
    }

    fn policy(read: Option<&[&str]>, change: Option<&[&str]>) -> ControlPolicy {
        let principals = |list: &[&str]| {
            let principal = |name: &&str| match name.strip_prefix('@') {
                Some(group) => Principal::Group(group.to_owned()),
                None => Principal::User((*name).to_owned()),
            };
            list.iter().map(principal).collect()
        };
        ControlPolicy { group: None, read: read.map(principals), change: change.map(principals) }
    }

    /// Whether somebody may ask, and may change something.
    fn may(policy: &ControlPolicy, uid: u32, groups: &[u32]) -> (bool, bool) {
        let caller = Caller { uid, pid: None, groups: groups.into() };
        let permitted = |level| permit(policy, &caller, level, 900, &Few).is_ok();
        (permitted(Level::Read), permitted(Level::Change))
    }

    #[test]
    fn lists_say_who_may_ask_and_who_may_change() {
        let [none, reading, changing, both] = [
            policy(None, None),
            policy(Some(&["@monitoring"]), None),
            policy(None, Some(&["alice", "@ops"])),
            policy(Some(&["@monitoring"]), Some(&["alice", "@ops"])),
        ];
        for whole in [&none, &reading, &changing, &both] {
            assert_eq!(may(whole, 0, &[0]), (true, true), "root");
            assert_eq!(may(whole, 900, &[7]), (true, true), "the controller's own user");
        }
        assert_eq!(may(&none, 1002, &[7]), (true, true), "who can open the socket");
        assert_eq!(may(&reading, 1002, &[60]), (true, false));
        assert_eq!(may(&reading, 1002, &[7]), (false, false));
        assert_eq!(may(&changing, 1002, &[7]), (true, false));
        assert_eq!(may(&changing, 1001, &[7]), (true, true));
        assert_eq!(may(&both, 1002, &[7, 50]), (true, true), "who may change may ask");
        assert_eq!(may(&both, 1002, &[7, 60]), (true, false));
        assert_eq!(may(&both, 1002, &[7]), (false, false));
        // A name that this host does not know is nobody.
        assert_eq!(may(&policy(None, Some(&["carol", "@none"])), 1001, &[7]), (true, false));
    }

    #[test]
    fn who_may_not_is_told_who_may_and_which_group_to_join() {
        let caller = Caller { uid: 1002, pid: None, groups: [7].into() };
        let said = |policy: &ControlPolicy, level| permit(policy, &caller, level, 900, &Few).unwrap_err();
        assert_eq!(
            said(&policy(Some(&["@monitoring"]), Some(&["alice", "@ops"])), Level::Change),
            "permission denied: uid 1002 may not change anything; `control.change` of the config: alice, @ops.\n\
             Join the group (`sudo usermod -aG ops $USER`, then log in again), or run this as root."
        );
        assert_eq!(
            said(&policy(Some(&[]), None), Level::Read),
            "permission denied: uid 1002 may not ask the controller; `control.read` and `control.change` of the config: \
             nobody but root.\nRun this as root (`sudo`)."
        );
    }

    #[tokio::test]
    async fn the_kernel_tells_the_groups_of_the_other_end() {
        let (one, _other) = UnixStream::pair().unwrap();
        let caller = caller(&one).unwrap();
        let own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        assert!(own.iter().all(|gid| caller.groups.contains(gid)), "{own:?} {:?}", caller.groups);
        assert!(caller.groups.contains(&nix::unistd::getgid().as_raw()));
    }
}
