//! Features of a network card that are on, by the ioctls of ethtool (linux/ethtool.h).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
/// ETH_GSTRING_LEN.
const NAME: usize = 32;
/// Words of an `ethtool_get_features_block`: available, requested, active, never changed.
const BLOCK: usize = 4;
const ACTIVE: usize = 2;

/// Features that make one packet of several before XDP sees them, as `ethtool -k` names them.
const COALESCING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// Those of [`COALESCING`] that are on.
pub(super) fn coalescing(interface: &str) -> Vec<&'static str> {
    let active = active(interface).unwrap_or_default();
    COALESCING.into_iter().filter(|feature| active.iter().any(|name| name == feature)).collect()
}

/// Names of all features that are on; `None` where the kernel does not say.
fn active(interface: &str) -> Option<Vec<String>> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // struct ethtool_sset_info: command, reserved, a mask of 64 bits, and for each bit set a number.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
    ask(&socket, interface, &mut info)?;
    let count = info[4] as usize;
    // struct ethtool_gstrings: command, set, length, and so many names.
    let mut strings = vec![0u32; 3 + count * NAME / 4];
    (strings[0], strings[1], strings[2]) = (ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32);
    ask(&socket, interface, &mut strings)?;
    let names: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    // struct ethtool_gfeatures: command, number of blocks, and so many blocks.
    let blocks = count.div_ceil(32);
    let mut features = vec![0u32; 2 + blocks * BLOCK];
    (features[0], features[1]) = (ETHTOOL_GFEATURES, blocks as u32);
    ask(&socket, interface, &mut features)?;
    let is_active = |bit: usize| features[2 + bit / 32 * BLOCK + ACTIVE] & 1 << (bit % 32) != 0;
    let name = |bit: usize| {
        let bytes = &names[bit * NAME..(bit + 1) * NAME];
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    };
    Some((0..count).filter(|bit| is_active(*bit)).map(name).collect())
}

/// Has the kernel answer in the place of a request whose first word is the command.
fn ask(socket: &OwnedFd, interface: &str, request: &mut [u32]) -> Option<()> {
    // SAFETY: all zeros are a valid request.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    if interface.len() >= ifreq.ifr_name.len() {
        return None;
    }
    for (place, byte) in ifreq.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: the kernel writes no more than the request says it has room for, and that lives through the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut ifreq) };
    (answer == 0).then_some(())
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_as_ethtool_names_them() {
        // The loopback device has had this one since there are features, and it can't be changed.
        let active = active("lo").unwrap();
        assert!(active.iter().any(|name| name == "loopback"), "{active:?}");
        assert!(coalescing("lo").is_empty());
        assert!(super::active("no-such-device").is_none());
    }
}
