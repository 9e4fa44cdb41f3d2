// Whatever stands in the header of a safetensors file, opening it ends without a panic, and what is read is what the
// format's own library reads. The input is the header and, behind the first line feed, the data: the length before
// the header is made here, since no fuzzer would hit it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use uncook_fuzz::{open, read_all};

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|b| *b == b'\n');
    let (header, data) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(data);
    if let Ok(ours) = open(&file) {
        read_all(&ours);
        let theirs = SafeTensors::deserialize(&file).expect("the format's own library reads it too");
        assert_eq!(ours.names().len(), theirs.len());
        for (name, tensor) in theirs.iter() {
            let view = ours.tensor(name).expect("the same names");
            assert_eq!(view.shape, tensor.shape());
            assert_eq!(&*view.bytes, tensor.data());
        }
    }
});
