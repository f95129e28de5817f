//! The fuzzer's corpus in one file: inputs, each behind its length in four bytes (little endian).

/// The inputs of a packed corpus; the last one may be cut off.
pub fn unpack(mut packed: &[u8]) -> Vec<&[u8]> {
    let mut inputs = Vec::new();
    while let Some((length, rest)) = packed.split_first_chunk::<4>() {
        let (input, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
        inputs.push(input);
        packed = rest;
    }
    inputs
}

pub fn pack<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let one = |input: &'a [u8]| [&(input.len() as u32).to_le_bytes(), input].concat();
    inputs.into_iter().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let inputs: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(unpack(&pack(inputs)), inputs);
    }
}
