//! The batches that channels of a BatchNorm have skipped, in the metadata: torch has no such value, and refuses a tensor that
//! it does not know.

use crate::error::StateError;

/// What the entry of a layer begins with, before its prefix.
const SKIPPED: &str = "wgpu-norm/skipped/";

/// The key of a layer's entry.
pub fn key(prefix: &str) -> String {
    format!("{SKIPPED}{prefix}")
}

/// The entry: `3:2 17:1` where channel 3 has skipped two batches, channel 17 one, and all others none.
pub fn entry(skipped: &[u32]) -> String {
    let channels = skipped.iter().enumerate();
    let words: Vec<String> = channels
        .filter(|&(_, &batches)| batches > 0)
        .map(|(channel, batches)| format!("{channel}:{batches}"))
        .collect();
    words.join(" ")
}

/// The number of batches by channel, none of which has skipped more than there were.
pub fn parse(
    key: &str,
    entry: &str,
    channels: usize,
    tracked: u64,
) -> Result<Vec<u32>, StateError> {
    let mut skipped = vec![0; channels];
    for word in entry.split_whitespace() {
        let mut read = || {
            let (channel, batches) = word.split_once(':')?;
            let batches: u32 = batches.parse().ok()?;
            let place = skipped.get_mut(channel.parse::<usize>().ok()?)?;
            (u64::from(batches) <= tracked).then(|| *place = batches)
        };
        if read().is_none() {
            return Err(StateError::Unfit {
                tensor: key.to_owned(),
                problem: format!(
                    "cannot read {word:?} for {channels} channels and {tracked} batches; save the layer again"
                ),
            });
        }
    }
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_no_other_does() {
        for skipped in [vec![0, 0, 0], vec![0, 7, 1], vec![9, 0, 0]] {
            let text = entry(&skipped);
            assert_eq!(parse("key", &text, 3, 9), Ok(skipped), "{text}");
        }
        assert_eq!(entry(&[0, 7, 1]), "1:7 2:1");
        for wrong in [
            "1",
            "1:",
            ":1",
            "a:1",
            "1:-1",
            "3:1",
            "1:10",
            "1:4294967296",
            "1:1:1",
            "1:1 x",
        ] {
            let error = parse("key", wrong, 3, 9).unwrap_err();
            assert!(error.to_string().starts_with("key: cannot read"), "{error}");
        }
    }
}
