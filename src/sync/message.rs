//! What ranks tell each other: who they are and what they do, and then the numbers, or an error in place of them.
//!
//! A message is a mark of 8 bytes, the fields of the header with 8 bytes each, and the body. All is little-endian.
//! Whatever arrives is read with care: no length is believed, and nothing panics.

use std::time::Duration;

use crate::batch_norm::{BatchNormConfig, Epilogue, NonFinite, RunningVariance, SingleValue};
use crate::dtype::Dtype;
use crate::error::SyncError;

/// What all messages begin with, the version of their form last. The status follows.
const MARK: [u8; 7] = *b"wgpunm2";
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// The most bytes of a text in an error.
const LONGEST_TEXT: usize = 1000;

/// What a rank does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Join,
    Average,
    Sum,
    Forward,
    Backward,
    BroadcastRunning,
    AverageRunning,
    Precise,
}

impl Operation {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Join, "Group::new"),
        (Self::Average, "average"),
        (Self::Sum, "sum"),
        (Self::Forward, "train"),
        (Self::Backward, "backward"),
        (Self::BroadcastRunning, "broadcast_running"),
        (Self::AverageRunning, "average_running"),
        (Self::Precise, "set_precise"),
    ];

    fn name(code: u64) -> String {
        let found = Self::ALL.iter().find(|(known, _)| *known as u64 == code);
        found.map_or_else(
            || format!("operation {code}"),
            |(_, name)| (*name).to_owned(),
        )
    }
}

/// A field's place in a header. They are compared in this order, so that the first difference is the telling one.
#[derive(Clone, Copy, PartialEq)]
enum Field {
    Operation,
    Layer,
    Step,
    Length,
    Dtype,
    Eps,
    Momentum,
    Weight,
    Bias,
    TrackRunningStats,
    Epilogue,
    RunningVariance,
    SingleValue,
    NonFinite,
    Reduction,
    Root,
    /// Of the whole configuration: whatever it has besides.
    Hash,
}

const FIELDS: [Field; 17] = [
    Field::Operation,
    Field::Layer,
    Field::Step,
    Field::Length,
    Field::Dtype,
    Field::Eps,
    Field::Momentum,
    Field::Weight,
    Field::Bias,
    Field::TrackRunningStats,
    Field::Epilogue,
    Field::RunningVariance,
    Field::SingleValue,
    Field::NonFinite,
    Field::Reduction,
    Field::Root,
    Field::Hash,
];

/// The names of fields in errors.
const NAMES: [&str; 19] = [
    "operation",
    "layer",
    "step",
    "num_features",
    "dtype",
    "eps",
    "momentum",
    "weight",
    "bias",
    "track_running_stats",
    "epilogue",
    "running_variance",
    "single_value",
    "non_finite",
    "reduction",
    "root",
    "configuration",
    "values",
    "fan_out",
];

/// The value of a field that a message does not have.
const NONE: u64 = u64::MAX;

const HEADER_BYTES: usize = MARK.len() + 1 + 8 * FIELDS.len();

/// What the ranks of an operation must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header([u64; FIELDS.len()]);

impl Header {
    /// Of an operation without a layer on `length` values.
    pub fn new(operation: Operation, step: u64, length: usize) -> Self {
        let mut header = Self([NONE; FIELDS.len()]);
        header.set(Field::Operation, operation as u64);
        header.set(Field::Step, step);
        header.set(Field::Length, length as u64);
        header
    }

    /// Of a layer's operation.
    pub fn of_layer(operation: Operation, layer: u32, step: u64, config: &BatchNormConfig) -> Self {
        let mut header = Self::new(operation, step, config.num_features);
        let epilogue = Epilogue::ALL.iter().position(|e| *e == config.epilogue);
        let share = config.momentum.share();
        for (field, value) in [
            (Field::Layer, layer.into()),
            (Field::Eps, config.eps.to_bits().into()),
            (
                Field::Momentum,
                share.map_or(NONE, |share| share.to_bits().into()),
            ),
            (Field::Weight, config.weight.into()),
            (Field::Bias, config.bias.into()),
            (Field::TrackRunningStats, config.track_running_stats.into()),
            (Field::Epilogue, epilogue.map_or(NONE, |e| e as u64)),
            (Field::RunningVariance, config.running_variance as u64),
            (Field::SingleValue, config.single_value as u64),
            (Field::NonFinite, config.non_finite as u64),
            (Field::Hash, hash(format!("{config:?}").as_bytes())),
        ] {
            header.set(field, value);
        }
        header
    }

    /// With what becomes of the parameters' gradients.
    pub fn reduction(mut self, reduction: u8) -> Self {
        self.set(Field::Reduction, reduction.into());
        self
    }

    /// With the rank that has the values.
    pub fn root(mut self, root: usize) -> Self {
        self.set(Field::Root, root as u64);
        self
    }

    /// With the storage type of the values. A rank without values has none: it fits any.
    pub fn dtype(mut self, dtype: Option<Dtype>) -> Self {
        let code = dtype.and_then(|dtype| Dtype::ALL.iter().position(|d| *d == dtype));
        self.set(Field::Dtype, code.map_or(NONE, |code| code as u64));
        self
    }

    /// The number of channels or values.
    pub fn length(&self) -> u64 {
        self.get(Field::Length)
    }

    fn get(&self, field: Field) -> u64 {
        self.0[field as usize]
    }

    fn set(&mut self, field: Field, value: u64) {
        self.0[field as usize] = value;
    }

    /// The bytes of a message: with numbers, or with the error that this rank has in place of them.
    pub fn message(&self, body: Result<&[u8], &SyncError>) -> Vec<u8> {
        let mut bytes = MARK.to_vec();
        bytes.push(if body.is_ok() { DATA } else { ERROR });
        bytes.extend(self.0.iter().flat_map(|value| value.to_le_bytes()));
        match body {
            Ok(numbers) => bytes.extend(numbers),
            Err(error) => write_error(error, &mut bytes),
        }
        bytes
    }

    fn name(&self, field: Field) -> &'static str {
        let operation = |operation| self.get(Field::Operation) == operation as u64;
        match field {
            Field::Length if operation(Operation::Average) || operation(Operation::Sum) => "values",
            Field::Length if operation(Operation::Join) => "fan_out",
            field => NAMES[field as usize],
        }
    }

    /// The value of a field in words.
    fn shown(&self, field: Field) -> String {
        let value = self.get(field);
        let float = || f32::from_bits(value as u32).to_string();
        match field {
            Field::Operation => Operation::name(value),
            Field::Epilogue => {
                let known = usize::try_from(value)
                    .ok()
                    .and_then(|e| Epilogue::ALL.get(e));
                known.map_or_else(|| format!("epilogue {value}"), ToString::to_string)
            }
            Field::Dtype => {
                let known = usize::try_from(value).ok().and_then(|d| Dtype::ALL.get(d));
                known.map_or_else(|| format!("type {value}"), ToString::to_string)
            }
            _ if value == NONE => "none".to_owned(),
            Field::RunningVariance => word(RunningVariance::ALL, value),
            Field::SingleValue => word(SingleValue::ALL, value),
            Field::NonFinite => word(NonFinite::ALL, value),
            Field::Reduction => word(&["local", "sum", "mean"], value),
            Field::Eps | Field::Momentum => float(),
            Field::Weight | Field::Bias | Field::TrackRunningStats => (value != 0).to_string(),
            Field::Hash => format!("{value:016x}"),
            Field::Layer | Field::Step | Field::Length | Field::Root => value.to_string(),
        }
    }
}

/// The word of a value by its number.
fn word(all: &[impl ToString], value: u64) -> String {
    let known = usize::try_from(value).ok().and_then(|index| all.get(index));
    known.map_or_else(|| value.to_string(), ToString::to_string)
}

/// What the ranks have in common, or the first difference.
pub fn agreed(headers: &[Header]) -> Result<Header, SyncError> {
    let mut common = *headers.first().unwrap_or(&Header([NONE; FIELDS.len()]));
    for field in FIELDS {
        let any = field == Field::Dtype;
        let given = |header: &Header| !any || header.get(field) != NONE;
        let Some(first) = headers.iter().position(given) else {
            continue;
        };
        let expected = &headers[first];
        common.set(field, expected.get(field));
        let other = |header: &Header| given(header) && header.get(field) != expected.get(field);
        if let Some(rank) = headers.iter().position(other) {
            return Err(SyncError::Disagree {
                field: expected.name(field),
                first,
                expected: expected.shown(field),
                rank,
                got: headers[rank].shown(field),
            });
        }
    }
    Ok(common)
}

/// A message that has arrived.
#[derive(Debug)]
pub struct Message<'a> {
    pub header: Header,
    /// The numbers, or the error that a rank has in place of them, in the numbers of all ranks.
    pub body: Result<&'a [u8], SyncError>,
}

/// Reads a message, or says what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Message<'_>, &'static str> {
    let Some((head, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err("it is shorter than a header");
    };
    let (mark, rest) = head.split_at(MARK.len());
    if mark != MARK {
        return Err("it is of another program, or of another version of the crate");
    }
    let (status, fields) = rest.split_at(1);
    let mut values = [0; FIELDS.len()];
    for (value, bytes) in values.iter_mut().zip(fields.chunks_exact(8)) {
        *value = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    let body = match status {
        [DATA] => Ok(body),
        [ERROR] => Err(read_error(body).ok_or("its error cannot be read")?),
        _ => return Err("its status is unknown"),
    };
    Ok(Message {
        header: Header(values),
        body,
    })
}

/// What an error in a message is.
const REMOTE: u8 = 0;
const DISAGREE: u8 = 1;
const GAVE_UP: u8 = 2;
const TIMEOUT: u8 = 3;
const LOST: u8 = 4;

/// Writes an error: its kind, a field, two ranks, two texts, and what else belongs to its kind.
pub fn write_error(error: &SyncError, bytes: &mut Vec<u8>) {
    let mut write = |kind, field: u8, ranks: [usize; 2], texts: [&str; 2]| {
        bytes.extend([kind, field]);
        bytes.extend(ranks.iter().flat_map(|&rank| (rank as u32).to_le_bytes()));
        for text in texts {
            let mut end = text.len().min(LONGEST_TEXT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            bytes.extend((end as u32).to_le_bytes());
            bytes.extend(&text.as_bytes()[..end]);
        }
    };
    match error {
        SyncError::Disagree {
            field,
            first,
            expected,
            rank,
            got,
        } => {
            let field = NAMES.iter().position(|name| name == field).unwrap_or(0);
            write(DISAGREE, field as u8, [*first, *rank], [expected, got]);
        }
        SyncError::Timeout { missing, waited } => {
            write(TIMEOUT, 0, [0, 0], ["", ""]);
            bytes.extend((waited.as_millis() as u64).to_le_bytes());
            let missing = missing.iter().take(LONGEST_TEXT);
            bytes.extend(missing.flat_map(|&rank| (rank as u32).to_le_bytes()));
        }
        SyncError::RankLost { rank, message } => write(LOST, 0, [0, *rank], [message, ""]),
        SyncError::GaveUp { rank, reason } => {
            write(GAVE_UP, 0, [0, *rank], ["", ""]);
            write_error(reason, bytes);
        }
        SyncError::Remote { rank, message } => write(REMOTE, 0, [0, *rank], [message, ""]),
        SyncError::Malformed { rank, .. } => {
            write(REMOTE, 0, [0, *rank], [&error.to_string(), ""]);
        }
        other => write(REMOTE, 0, [0, 0], [&other.to_string(), ""]),
    }
}

/// Reads an error; `None` if it is none.
pub fn read_error(bytes: &[u8]) -> Option<SyncError> {
    let [kind, field, rest @ ..] = bytes else {
        return None;
    };
    let (first, rest) = split_rank(rest)?;
    let (rank, rest) = split_rank(rest)?;
    let (one, rest) = split_text(rest)?;
    let (two, rest) = split_text(rest)?;
    match *kind {
        REMOTE => Some(SyncError::Remote { rank, message: one }),
        LOST => Some(SyncError::RankLost { rank, message: one }),
        DISAGREE => Some(SyncError::Disagree {
            field: NAMES.get(usize::from(*field)).copied()?,
            first,
            expected: one,
            rank,
            got: two,
        }),
        TIMEOUT => {
            let (waited, missing) = rest.split_at_checked(8)?;
            let waited = u64::from_le_bytes(waited.try_into().ok()?);
            let missing = missing.chunks_exact(4).take(LONGEST_TEXT);
            Some(SyncError::Timeout {
                missing: missing.filter_map(|b| Some(split_rank(b)?.0)).collect(),
                waited: Duration::from_millis(waited),
            })
        }
        // A reason has no further reason, however deep a stranger may nest it.
        GAVE_UP if rest.first() != Some(&GAVE_UP) => Some(SyncError::GaveUp {
            rank,
            reason: Box::new(read_error(rest)?),
        }),
        _ => None,
    }
}

fn split_rank(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (rank, rest) = bytes.split_at_checked(4)?;
    Some((u32::from_le_bytes(rank.try_into().ok()?) as usize, rest))
}

fn split_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = split_rank(bytes)?;
    if length > LONGEST_TEXT {
        return None;
    }
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

/// FNV-1a, which is the same everywhere.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header::of_layer(Operation::Forward, 3, 7, &BatchNormConfig::new(5)).dtype(Some(Dtype::F16))
    }

    fn disagreement() -> SyncError {
        SyncError::Disagree {
            field: "eps",
            first: 2,
            expected: "0.1".to_owned(),
            rank: 4,
            got: "0.2".to_owned(),
        }
    }

    #[test]
    fn a_message_reads_back() {
        let remote = SyncError::Remote {
            rank: 9,
            message: "x: too wide".to_owned(),
        };
        let gave_up = SyncError::GaveUp {
            rank: 3,
            reason: Box::new(SyncError::Timeout {
                missing: vec![1, 5],
                waited: Duration::from_millis(1500),
            }),
        };
        let lost = SyncError::GaveUp {
            rank: 3,
            reason: Box::new(SyncError::RankLost {
                rank: 2,
                message: "its thread has ended".to_owned(),
            }),
        };
        for body in [
            Ok(&[1u8, 2, 3][..]),
            Ok(&[]),
            Err(&remote),
            Err(&gave_up),
            Err(&lost),
            Err(&disagreement()),
        ] {
            let bytes = header().message(body);
            let message = read(&bytes).unwrap();
            assert_eq!(message.header, header());
            assert_eq!(message.body.as_ref(), body.as_ref().map_err(|e| *e));
        }
    }

    /// Cut off anywhere, or with any byte changed, it is refused or is another message.
    #[test]
    fn a_damaged_message_is_read_without_a_panic() {
        let gave_up = SyncError::GaveUp {
            rank: 3,
            reason: Box::new(disagreement()),
        };
        for body in [Ok(&[1u8, 2, 3][..]), Err(&disagreement()), Err(&gave_up)] {
            let bytes = header().message(body);
            for end in 0..bytes.len() {
                if let Ok(message) = read(&bytes[..end]) {
                    assert!(body.is_ok() && message.header == header());
                }
            }
            for at in 0..bytes.len() {
                for change in [1, 0x80, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= change;
                    match read(&bytes) {
                        Err(problem) => assert!(problem.starts_with("it")),
                        Ok(message) => {
                            // What differs is named, whichever it is.
                            if message.header != header() {
                                let error = agreed(&[header(), message.header]).unwrap_err();
                                assert!(error.to_string().len() > 20, "{error}");
                            }
                        }
                    }
                }
            }
        }
        assert!(read(&[0xff; 4000]).is_err());
    }

    #[test]
    fn the_first_difference_is_named_with_its_rank() {
        let config = BatchNormConfig::new(5);
        let with = |config: &BatchNormConfig| Header::of_layer(Operation::Forward, 0, 1, config);
        let common = with(&config);
        for (other, message) in [
            (
                with(&BatchNormConfig::new(6)),
                "num_features: rank 0 has 5, rank 2 has 6;",
            ),
            (
                with(&config.eps(0.5)),
                "eps: rank 0 has 0.00001, rank 2 has 0.5;",
            ),
            (
                with(&config.momentum(None)),
                "momentum: rank 0 has 0.1, rank 2 has none;",
            ),
            (
                with(&config.weight(false)),
                "weight: rank 0 has true, rank 2 has false;",
            ),
            (
                with(&config.bias(false)),
                "bias: rank 0 has true, rank 2 has false;",
            ),
            (
                with(&config.track_running_stats(false)),
                "track_running_stats: rank 0 has true, rank 2 has false;",
            ),
            (
                with(&config.epilogue(Epilogue::Silu)),
                "epilogue: rank 0 has identity, rank 2 has silu;",
            ),
            (
                Header::of_layer(Operation::Forward, 1, 1, &config),
                "layer: rank 0 has 0, rank 2 has 1;",
            ),
            (
                Header::of_layer(Operation::Backward, 0, 1, &config),
                "operation: rank 0 has train, rank 2 has backward;",
            ),
            (
                Header::of_layer(Operation::Forward, 0, 2, &config),
                "step: rank 0 has 1, rank 2 has 2;",
            ),
        ] {
            let error = agreed(&[common, common, other, common]).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_rank_without_values_fits_any_type() {
        let of = |dtype| header().dtype(dtype);
        let common = agreed(&[of(None), of(Some(Dtype::F16)), of(None)]).unwrap();
        assert_eq!(common, of(Some(Dtype::F16)));
        let error = agreed(&[of(None), of(Some(Dtype::F16)), of(Some(Dtype::F32))]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("dtype: rank 1 has f16, rank 2 has f32;"),
            "{message}"
        );
    }
}
