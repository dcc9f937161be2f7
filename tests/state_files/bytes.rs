//! Bytes that are cut, changed, or never were a state file: an error that says so, or the same values. No panic, no memory
//! beyond the file's size.

use std::collections::BTreeSet;

use super::small_file;
use wgpu_norm::StateError;
use wgpu_norm::reference;
use wgpu_norm::state::{StateFile, StoredTensor};

/// A file of this header and data, whatever they say.
fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

#[test]
fn the_bytes_read_back_and_are_the_same_each_time() {
    let file = small_file();
    let bytes = file.to_bytes().unwrap();
    let back = StateFile::from_bytes(&bytes).unwrap();
    assert_eq!(back, file);
    assert_eq!(back.to_bytes().unwrap(), bytes);
    // Whatever the order in which tensors came.
    let mut other = StateFile::new();
    let names: Vec<&str> = file.names().collect();
    for name in names.into_iter().rev() {
        other.insert(name, file.get(name).unwrap().clone()).unwrap();
    }
    for (key, value) in file.metadata() {
        let _ = other.set_metadata(key, Some(value.clone()));
    }
    let foreign = StateFile::from_bytes(&other.to_bytes().unwrap()).unwrap();
    assert_eq!(other, foreign);
    assert_eq!(
        StateFile::new(),
        StateFile::from_bytes(&StateFile::new().to_bytes().unwrap()).unwrap()
    );
}

/// The format's own library reads it: names, types, shapes, aligned data.
#[test]
fn others_read_it() {
    let file = small_file();
    let bytes = file.to_bytes().unwrap();
    let (length, _) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(length % 8, 0);
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names: BTreeSet<&str> = read.names().into_iter().collect();
    assert_eq!(names, file.names().collect());
    for name in names {
        let (tensor, own) = (read.tensor(name).unwrap(), file.get(name).unwrap());
        assert_eq!(
            (tensor.dtype(), tensor.shape(), tensor.data()),
            (own.dtype(), own.shape(), own.data())
        );
        let offset = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let size = tensor.dtype().bitsize() / 8;
        assert_eq!(offset % size, 0, "{name}");
    }
    let counter = read.tensor("net.bn.num_batches_tracked").unwrap();
    assert_eq!(
        (counter.dtype(), counter.shape()),
        (safetensors::Dtype::I64, &[][..])
    );
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = small_file().to_bytes().unwrap();
    for end in 0..bytes.len() {
        let error = StateFile::from_bytes(&bytes[..end]).expect_err("a cut file");
        assert!(matches!(error, StateError::Length { .. }), "{end}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = StateFile::from_bytes(&longer).unwrap_err();
    assert!(matches!(error, StateError::Length { .. }), "{error}");
    println!("{} cuts, each refused", bytes.len());
}

/// Every byte of a file replaced, by each of the values that `wrong` makes of it: `[refused, the same values]`.
fn changed_bytes(wrong: impl Fn(u8) -> Vec<u8>) -> [usize; 2] {
    let file = small_file();
    let mut bytes = file.to_bytes().unwrap();
    let (mut refused, mut same) = (0, 0);
    for at in 0..bytes.len() {
        let right = bytes[at];
        for wrong in wrong(right) {
            bytes[at] = wrong;
            match StateFile::from_bytes(&bytes) {
                Ok(read) => {
                    assert_eq!(read, file, "byte {at}: {right} -> {wrong}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
        bytes[at] = right;
    }
    println!(
        "{} bytes: {refused} changes refused, {same} without a meaning",
        bytes.len()
    );
    [refused, same]
}

#[test]
fn a_file_with_any_bit_changed_is_refused_or_the_same() {
    let flips = |byte: u8| (0..8).map(|bit| byte ^ (1 << bit)).chain([!byte]).collect();
    let [refused, same] = changed_bytes(flips);
    // One kind of white space for another is all that has no meaning.
    assert!(same < refused / 100, "{same} of {refused}");
}

#[test]
#[ignore = "takes a minute: 255 other values of each byte"]
fn a_file_with_any_byte_changed_is_refused_or_the_same() {
    let [refused, same] = changed_bytes(|byte| (0..=255).filter(|&wrong| wrong != byte).collect());
    assert!(same < refused / 100, "{same} of {refused}");
}

/// A bit of a tensor is told by the tensor's name.
#[test]
fn a_checksum_names_its_tensor() {
    let bytes = small_file().to_bytes().unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut broken = BTreeSet::new();
    for name in read.names() {
        let data = read.tensor(name).unwrap().data();
        let offset = data.as_ptr() as usize - bytes.as_ptr() as usize;
        for at in offset..offset + data.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let error = StateFile::from_bytes(&bytes).unwrap_err();
            assert_eq!(
                error,
                StateError::Checksum {
                    what: name.to_owned()
                }
            );
            broken.insert(name);
        }
    }
    assert_eq!(broken.len(), 8);
}

/// Entries without the checksum that vouches for them, and a version that is not known.
#[test]
fn metadata_of_ours_must_be_whole() {
    let text = small_file().to_bytes().unwrap();
    let length = u64::from_le_bytes(text[..8].try_into().unwrap()) as usize;
    let (header, data) = (
        String::from_utf8(text[8..8 + length].to_vec()).unwrap(),
        &text[8 + length..],
    );
    for (key, other) in [
        ("wgpu-norm/header-crc32", "other/header-crc32"),
        ("wgpu-norm/format", "other/format"),
        ("wgpu-norm/crc32/empty", "wgpu-norm/crc32/vacant"),
        ("wgpu-norm/layer/ln", "wgpu-norm/layer/nl"),
        ("\"pt\"", "\"tf\""),
        ("eps=1e-5", "eps=2e-5"),
    ] {
        assert!(header.contains(key), "{key}");
        let error = StateFile::from_bytes(&file_of(&header.replace(key, other), data)).unwrap_err();
        assert_eq!(
            error,
            StateError::Checksum {
                what: "header".to_owned()
            },
            "{key}"
        );
    }
}

/// CRC-32 by its definition: the polynomial of Ethernet and zip, reflected, bit by bit.
fn crc32(bytes: &[u8]) -> String {
    let mut remainder = !0u32;
    for &byte in bytes {
        remainder ^= u32::from(byte);
        for _ in 0..8 {
            let carry = remainder & 1;
            remainder = (remainder >> 1) ^ (carry * 0xedb8_8320);
        }
    }
    format!("{:08x}", !remainder)
}

/// Any program can compute the checksums: of the bytes of a tensor; and of all texts of the metadata but its own, each after
/// its length in 8 bytes, then of name, type and shape of each tensor.
#[test]
fn the_checksums_are_those_that_are_documented() {
    let mut file = StateFile::new();
    let tensor = StoredTensor::from_f32([2, 1], &[1.0, -2.0]).unwrap();
    file.insert("a", tensor.clone()).unwrap();
    file.set_metadata("format", Some("pt".to_owned())).unwrap();
    let header_of = |version: &str, of_tensor: &str| {
        let entries = [
            ("format", "pt"),
            ("wgpu-norm/crc32/a", of_tensor),
            ("wgpu-norm/format", version),
        ];
        let texts = entries.iter().flat_map(|&(key, value)| [key, value]);
        let texts = texts.chain(["a", "F32", "[2, 1]"]);
        let bytes =
            texts.flat_map(|text| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat());
        let checksum = crc32(&bytes.collect::<Vec<u8>>());
        let entries = entries.map(|(key, value)| format!("{key:?}:{value:?},"));
        let json = format!(
            r#"{{"__metadata__":{{{}"wgpu-norm/header-crc32":"{checksum}"}},"a":{{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}}}"#,
            entries.concat()
        );
        file_of(
            &format!("{json:0$}", json.len().next_multiple_of(8)),
            tensor.data(),
        )
    };
    let of_tensor = crc32(tensor.data());
    assert_eq!(header_of("1", &of_tensor), file.to_bytes().unwrap());
    let error = StateFile::from_bytes(&header_of("2", &of_tensor)).unwrap_err();
    assert!(
        error.to_string().contains("\"wgpu-norm/format\" is \"2\""),
        "{error}"
    );
    let error = StateFile::from_bytes(&header_of("1", "00000000")).unwrap_err();
    assert_eq!(
        error,
        StateError::Checksum {
            what: "a".to_owned()
        }
    );
}

#[test]
fn names_and_texts_may_be_any() {
    let mut file = StateFile::new();
    for name in [
        "",
        "\"",
        "\\",
        "a\nb\u{0}\u{7f}",
        "\u{1f980}.weight",
        "ß/é",
        "wgpu-norm/crc32/",
        " ",
    ] {
        file.insert(name, StoredTensor::from_f32([1], &[1.0]).unwrap())
            .unwrap();
        let key = format!("key {name}");
        file.set_metadata(key, Some(name.to_owned())).unwrap();
    }
    let bytes = file.to_bytes().unwrap();
    assert_eq!(StateFile::from_bytes(&bytes).unwrap(), file);
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.len(), file.names().count());
}

#[test]
fn what_is_no_safetensors_file_is_refused() {
    let header = |header: &str| StateFile::from_bytes(&file_of(header, &[0; 8])).unwrap_err();
    let f32s = |begin: u64, end: u64, count: u64| {
        format!(r#"{{"dtype":"F32","shape":[{count}],"data_offsets":[{begin},{end}]}}"#)
    };
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    for text in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}{}".to_owned(),
        deep("[", "]"),
        format!(r#"{{"a":{}}}"#, deep("[", "]")),
        format!(r#"{{"__metadata__":{}}}"#, deep(r#"{"a":"#, "}")),
        r#"{"__metadata__":{"a":1}}"#.to_owned(),
        r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[2]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.to_owned(),
        // An offset that is not 0, a hole, an overlap, another size than the shape's, shapes that overflow.
        format!(r#"{{"a":{}}}"#, f32s(4, 8, 1)),
        format!(r#"{{"a":{},"b":{}}}"#, f32s(0, 4, 1), f32s(6, 8, 1)),
        format!(r#"{{"a":{},"b":{}}}"#, f32s(0, 8, 2), f32s(4, 8, 1)),
        format!(r#"{{"a":{}}}"#, f32s(0, 8, 3)),
        format!(r#"{{"a":{}}}"#, f32s(0, 8, u64::MAX)),
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}"#
            .to_owned(),
        r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,0]}}"#.to_owned(),
    ] {
        let error = header(&text);
        assert!(
            matches!(error, StateError::Header { .. }),
            "{:.60}: {error}",
            text
        );
    }
    for (text, twice) in [
        (format!(r#"{{"a":{0},"a":{0}}}"#, f32s(0, 8, 2)), "a"),
        (
            format!(r#"{{"a":{},"\u0061":{}}}"#, f32s(0, 4, 1), f32s(4, 8, 1)),
            "a",
        ),
        (
            r#"{"__metadata__":{},"__metadata__":{}}"#.to_owned(),
            "__metadata__",
        ),
        (r#"{"__metadata__":{"k":"1","k":"2"}}"#.to_owned(), "k"),
    ] {
        assert_eq!(
            header(&text),
            StateError::Duplicate {
                name: twice.to_owned()
            },
            "{text}"
        );
    }
    let error = header("{}");
    assert!(
        matches!(
            error,
            StateError::Length {
                expected: 10,
                got: 18
            }
        ),
        "{error}"
    );
    let error = header(&format!(r#"{{"a":{}}}"#, f32s(0, 1 << 40, 1 << 38)));
    assert!(
        matches!(error, StateError::Length { expected, .. } if expected > 1 << 40),
        "{error}"
    );
    let not_utf8 = file_of("{\"a\u{80}\"}", &[]);
    let at = not_utf8.iter().position(|&byte| byte == 0xc2).unwrap();
    let error = StateFile::from_bytes(&[&not_utf8[..at], &[0xff], &not_utf8[at + 1..]].concat());
    assert!(matches!(error, Err(StateError::Header { .. })));
    // Lengths of the header that no file has.
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 100_000_001] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        let error = StateFile::from_bytes(&bytes).unwrap_err();
        assert!(
            matches!(error, StateError::Header { .. }),
            "{length}: {error}"
        );
    }
    let bytes = [&100_000_000u64.to_le_bytes()[..], b"{}"].concat();
    let error = StateFile::from_bytes(&bytes).unwrap_err();
    assert!(
        matches!(
            error,
            StateError::Length {
                expected: 100_000_008,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_tensor_has_the_bytes_of_its_shape() {
    let refused = |shape: &[usize], count: usize| {
        let error = StoredTensor::from_f32(shape, &vec![0.0; count]).unwrap_err();
        assert!(
            matches!(error, StateError::Shape { .. }),
            "{shape:?} {error}"
        );
    };
    refused(&[2], 1);
    refused(&[], 2);
    refused(&[0], 1);
    refused(&[usize::MAX, 2], 0);
    refused(&[usize::MAX / 16 + 1], 0);
    assert!(StoredTensor::from_f32([], &[1.0]).is_ok());
    assert!(StoredTensor::from_f32([3, 0], &[]).is_ok());
    let error = StateFile::new().insert("__metadata__", StoredTensor::from_f32([0], &[]).unwrap());
    assert!(matches!(error, Err(StateError::Name { .. })));
    let key = "wgpu-norm/layer/n";
    let error = StateFile::new().set_metadata(key, Some("norm=batch".to_owned()));
    assert!(matches!(error, Err(StateError::Name { .. })));
    // The entry of a layer whose tensors are removed goes, too.
    let mut file = small_file();
    let keys: Vec<String> = file.metadata().keys().cloned().collect();
    assert!(keys.iter().any(|key| key.starts_with("wgpu-norm/layer/")));
    for key in keys {
        file.set_metadata(key, None).unwrap();
    }
    assert!(file.metadata().is_empty());
}

/// Mutations of a valid file, drawn from a seed: some bytes changed, a piece taken out, doubled or moved. A file that is
/// accepted is written and reads back.
fn fuzz(seed: u64, rounds: usize) -> [usize; 2] {
    let good = small_file();
    let bytes = good.to_bytes().unwrap();
    let foreign = file_of(
        r#"{"__metadata__":{"format":"pt"},"bn.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        &[0; 8],
    );
    let mut numbers =
        reference::noise(seed, usize::MAX).map(|v| ((v + 1.0) * f64::from(1 << 23)) as usize);
    let mut draw = |below: usize| numbers.next().unwrap() % below.max(1);
    let (mut refused, mut accepted) = (0, 0);
    let words = [
        "\"",
        "{",
        "}",
        ",",
        ":",
        "[",
        "]",
        "0",
        "9",
        "F64",
        "\\u0000",
        "__metadata__",
        "wgpu-norm/",
        " ",
    ];
    for _ in 0..rounds {
        let ours = draw(2) == 0;
        let mut mutant = if ours { bytes.clone() } else { foreign.clone() };
        for _ in 0..=draw(3) {
            let at = draw(mutant.len());
            let end = (at + draw(24)).min(mutant.len());
            match draw(6) {
                0 if at < mutant.len() => mutant[at] ^= 1 << draw(8),
                1 if at < mutant.len() => mutant[at] = draw(256) as u8,
                2 => drop(mutant.drain(at..end)),
                3 => {
                    let piece = mutant[at..end].to_vec();
                    let to = draw(mutant.len());
                    mutant.splice(to..to, piece);
                }
                4 => {
                    let word = words[draw(words.len())].bytes();
                    mutant.splice(at..at, word);
                }
                _ => mutant.truncate(at.max(8)),
            }
            // Often with a length of the header that fits, so that mutants reach what is behind it.
            if draw(2) == 0 && mutant.len() > 8 {
                let length = mutant.len() - 8 - draw(64).min(mutant.len() - 8);
                mutant[..8].copy_from_slice(&(length as u64).to_le_bytes());
            }
        }
        match StateFile::from_bytes(&mutant) {
            Err(_) => refused += 1,
            Ok(read) => {
                assert!(!ours || read == good || !mutant.windows(9).any(|w| w == b"wgpu-norm"));
                let written = read.to_bytes().unwrap();
                assert_eq!(StateFile::from_bytes(&written).unwrap(), read);
                accepted += 1;
            }
        }
    }
    [refused, accepted]
}

#[test]
fn mutants_are_refused_or_read_back() {
    let [refused, accepted] = fuzz(15, 20_000);
    println!("{refused} mutants refused, {accepted} read");
    assert!(refused > 10_000 && accepted > 50, "{refused} {accepted}");
}

/// By hand, with a number of rounds: `FUZZ_ROUNDS=10000000 cargo test --release many_mutants -- --ignored --nocapture`.
#[test]
#[ignore = "takes as long as it is told to"]
fn many_mutants_are_refused_or_read_back() {
    let rounds =
        std::env::var("FUZZ_ROUNDS").map_or(1_000_000, |text| text.parse().expect("a number"));
    let seed = std::env::var("FUZZ_SEED").map_or(16, |text| text.parse().expect("a number"));
    let [refused, accepted] = fuzz(seed, rounds);
    println!("{refused} mutants refused, {accepted} read");
}
