//! Coverage-guided: frames through the packet path in userspace, see the tests' `frames`.
#![no_main]

use harness::frames::{check_input, helped};

libfuzzer_sys::fuzz_target!(|input: &[u8]| check_input(input));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Every fourth time; else libFuzzer changes the bytes as it does.
    let with_help = (seed % 4 == 0).then(|| helped(&data[..size], seed.into())).filter(|input| input.len() <= max_size);
    match with_help {
        Some(input) => {
            data[..input.len()].copy_from_slice(&input);
            input.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
});
