//! A tuner's choices, in memory and in a file.
//!
//! The file is only ever appended to, a choice with one write. So several processes can share it without a lock, no
//! second file is left behind, and links and permissions stay as they are. Of several lines with one key the last counts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::TuneError;
use crate::norm::tuning::Tuning;

/// The first line. A file without it belongs to somebody else.
const HEADER: &str = "# wgpu-norm tuning\n";

/// A choice takes about 200 bytes, so that no file of choices comes near.
const MAX_BYTES: u64 = 16 << 20;

/// More than a write of one line takes.
const WRITING: Duration = Duration::from_millis(20);

/// Choices by key: the two columns of the file.
#[derive(Debug, Default)]
pub struct TuningFile {
    file: Option<PathBuf>,
    lines: BTreeMap<String, String>,
    /// Lines that could not be written yet.
    unsaved: String,
}

impl TuningFile {
    /// The choices in a file, which is made if it is not there. Whether it can be written is found out now, and not after
    /// the first measurement.
    pub fn open(path: PathBuf) -> Result<Self, TuneError> {
        let text = append(&path, "").map_err(|message| file_error(&path, message))?;
        Ok(Self {
            file: Some(path),
            lines: choices(&text).collect(),
            unsaved: String::new(),
        })
    }

    /// The choice for a key, if its line can be read.
    pub fn get(&self, key: &str) -> Option<Tuning> {
        self.lines.get(key)?.parse().ok()
    }

    /// Remembers a choice, and takes in those that others have written to the file meanwhile.
    ///
    /// If the file fails, the choice is remembered all the same. Only the first failure is an error: later calls try to
    /// write all that is missing, so that a caller who goes on is not stopped at every choice.
    pub fn insert(&mut self, key: String, choice: Tuning) -> Result<(), TuneError> {
        let saved = self.save(&format!("{key}\t{choice}\n"));
        self.lines.insert(key, choice.to_string());
        saved
    }

    fn save(&mut self, line: &str) -> Result<(), TuneError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let told = !self.unsaved.is_empty();
        self.unsaved.push_str(line);
        match append(path, &self.unsaved) {
            Ok(text) => {
                self.lines.extend(choices(&text));
                self.unsaved.clear();
                Ok(())
            }
            Err(_) if told => Ok(()),
            Err(message) => Err(file_error(path, message)),
        }
    }
}

/// Adds lines to a file of choices, and returns its text.
fn append(path: &Path, lines: &str) -> Result<String, String> {
    let mut file = open(path)?;
    let text = read_lines(&mut file)?;
    let joint = joint(&text).ok_or_else(|| {
        let header = HEADER.trim_end();
        format!("is another program's (its first line is not {header:?}); name another file")
    })?;
    let added = format!("{joint}{lines}");
    // In one call: what others append at the same moment comes before it or after it.
    file.write_all(added.as_bytes()).map_err(|e| unusable(&e))?;
    Ok(text + &added)
}

/// Opens a regular file. Others are not even touched: to open a pipe is to wait for its other end.
fn open(path: &Path) -> Result<File, String> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err("is a folder, pipe or device; name a file".to_owned());
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    options.open(path).map_err(|error| unusable(&error))
}

/// The text of a file. A line without its end may be one that another writer is just writing: it is read again, until it
/// stays the same.
fn read_lines(file: &mut File) -> Result<String, String> {
    let mut text = read(file)?;
    while !text.is_empty() && !text.ends_with('\n') {
        thread::sleep(WRITING);
        let again = read(file)?;
        if again == text {
            break;
        }
        text = again;
    }
    Ok(text)
}

fn read(file: &mut File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.rewind().map_err(|error| unusable(&error))?;
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| unusable(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        let most = MAX_BYTES >> 20;
        return Err(format!(
            "is larger than {most} MiB, so that it holds more than choices; name another file"
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What must stand between a file's text and further lines; nothing if the text is not a tuner's.
fn joint(text: &str) -> Option<&str> {
    if let Some(rest) = HEADER.strip_prefix(text) {
        return Some(rest);
    }
    if text.lines().next() != Some(HEADER.trim_end()) {
        return None;
    }
    // Whoever wrote a line without its end was stopped. An empty choice makes sure that nobody believes half a word.
    Some(if text.ends_with('\n') { "" } else { "\t\n" })
}

/// The lines of a text that have two columns and an end.
fn choices(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.split_inclusive('\n');
    let columns = lines.filter_map(|line| line.strip_suffix('\n')?.rsplit_once('\t'));
    columns.map(|(key, choice)| (key.to_owned(), choice.to_owned()))
}

fn unusable(error: &io::Error) -> String {
    format!("{error}; name a file that can be read and written, in a folder that exists")
}

fn file_error(path: &Path, message: String) -> TuneError {
    TuneError::File {
        path: path.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of a test's own, with a path in it where nothing is.
    fn fresh(name: &str) -> (PathBuf, PathBuf) {
        let own = format!("wgpu-norm-tuning-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        (folder.join("choices"), folder)
    }

    fn choice(words: &str) -> Tuning {
        words.parse().unwrap()
    }

    fn saved(path: &Path, key: &str, words: &str) -> Result<(), TuneError> {
        TuningFile::open(path.to_owned())?.insert(key.to_owned(), choice(words))
    }

    fn found(path: &Path, key: &str) -> Option<String> {
        let file = TuningFile::open(path.to_owned()).unwrap();
        file.get(key).map(|choice| choice.to_string())
    }

    /// What is said of a file that cannot be used: within seconds, and not when a pipe has another end.
    fn refusal(path: &Path) -> String {
        let (sender, receiver) = std::sync::mpsc::channel();
        let path = path.to_owned();
        std::thread::spawn(move || sender.send(TuningFile::open(path).map(drop)));
        let answer = receiver.recv_timeout(std::time::Duration::from_secs(10));
        let error = answer.expect("an answer").expect_err("a refusal");
        assert!(matches!(error, TuneError::File { .. }), "{error:?}");
        error.to_string()
    }

    #[test]
    fn a_later_line_counts() {
        let (path, folder) = fresh("later");
        saved(&path, "a\tkey", "split 64x8x4").unwrap();
        saved(&path, "a\tkey", "reread plan").unwrap();
        assert_eq!(found(&path, "a\tkey").as_deref(), Some("reread plan"));
        assert_eq!(found(&path, "another"), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn threads_lose_no_line() {
        let (path, folder) = fresh("threads");
        thread::scope(|scope| {
            for thread in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let mut file = TuningFile::open(path.clone()).unwrap();
                    for number in 0..40 {
                        file.insert(format!("{thread}\t{number}"), choice("split 64x8x4"))
                            .unwrap();
                    }
                });
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.lines().filter(|line| line.contains('\t')).collect();
        lines.sort_unstable();
        let mut expected: Vec<_> = (0..8)
            .flat_map(|thread| {
                (0..40).map(move |number| format!("{thread}\t{number}\tsplit 64x8x4"))
            })
            .collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_fails_is_an_error_once_and_loses_nothing() {
        let (path, folder) = fresh("fails");
        let mut file = TuningFile::open(path.clone()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let mut insert = |key: &str| {
            let result = file.insert(key.to_owned(), choice("split 64x8x4"));
            assert_eq!(file.get(key), Some(choice("split 64x8x4")), "{key}");
            result
        };
        let error = insert("first").unwrap_err().to_string();
        assert!(error.contains("name a file"), "{error}");
        assert_eq!(insert("second"), Ok(()));
        fs::remove_dir(&path).unwrap();
        assert_eq!(insert("third"), Ok(()));
        for key in ["first", "second", "third"] {
            assert!(found(&path, key).is_some(), "{key}");
        }
        // What fails anew is an error anew, and nothing but the file is left.
        fs::remove_file(&path).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::create_dir(&path).unwrap();
        assert!(insert("fourth").is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_at_once() {
        let (path, folder) = fresh("nowhere");
        let error = refusal(&path.join("choices"));
        assert!(error.contains("in a folder that exists"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_of_others_stays_as_it_is() {
        let (path, folder) = fresh("foreign");
        let ours = format!("{HEADER}a\tkey\tsplit 64x8x4\n");
        let utf16: Vec<u8> = ours.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let late = format!("\n{ours}");
        for text in [
            b"to do:\n\ttune\n".as_slice(),
            b"\0\xff\n",
            &utf16,
            late.as_bytes(),
            b"\n",
        ] {
            fs::write(&path, text).unwrap();
            let error = refusal(&path);
            assert!(error.contains("name another file"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), text);
        }
        // One that another program has put there since.
        fs::remove_file(&path).unwrap();
        let mut file = TuningFile::open(path.clone()).unwrap();
        fs::write(&path, "a diary\n").unwrap();
        let error = file.insert("a\tkey".to_owned(), choice("split 64x8x4"));
        assert!(error.unwrap_err().to_string().contains("another program's"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a diary\n");
        fs::remove_dir_all(folder).unwrap();
    }

    /// A full disk or a kill in the middle of a line.
    #[test]
    fn a_file_cut_anywhere_goes_on() {
        let (path, folder) = fresh("cut");
        let whole = format!("{HEADER}other\tsplit plan\na\tkey\tsplit 64x8x4\n");
        for end in 0..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let expected = (end == whole.len()).then_some("split 64x8x4");
            assert_eq!(found(&path, "a\tkey").as_deref(), expected, "{end}");
            saved(&path, "new", "reread plan").unwrap();
            assert_eq!(found(&path, "new").as_deref(), Some("reread plan"), "{end}");
            assert_eq!(found(&path, "a\tkey").as_deref(), expected, "{end}");
            let kept = end >= whole.find("a\t").unwrap();
            assert_eq!(found(&path, "other").is_some(), kept, "{end}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn lines_of_other_kinds_are_left_alone() {
        let (path, folder) = fresh("kinds");
        let text = format!("{HEADER}no columns\nold\tkey\tspiral 3\n\n\u{fffd}\t\t\t\n{HEADER}");
        // An editor of Windows may have been at it.
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            fs::write(&path, &text).unwrap();
            assert_eq!(found(&path, "old\tkey"), None);
            saved(&path, "old\tkey", "split 64x8x4").unwrap();
            assert_eq!(found(&path, "old\tkey").as_deref(), Some("split 64x8x4"));
            assert!(fs::read_to_string(&path).unwrap().starts_with(&text));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_more_is_read_than_a_file_of_choices_can_hold() {
        let (path, folder) = fresh("large");
        fs::write(&path, HEADER).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        // Where a hole in a file takes no space, more than there is memory.
        let bytes = if cfg!(unix) { 1 << 40 } else { MAX_BYTES + 1 };
        file.set_len(bytes).unwrap();
        let error = refusal(&path);
        assert!(error.contains("larger than 16 MiB"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused() {
        let (path, folder) = fresh("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        for path in [
            &path,
            &folder,
            Path::new("/dev/zero"),
            Path::new("/dev/null"),
        ] {
            let error = refusal(path);
            assert!(error.contains("is a folder, pipe or device"), "{error}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let (target, folder) = fresh("link");
        let link = folder.join("link");
        symlink(&target, &link).unwrap();
        // Through a link to nothing, and then to a file with permissions of its own.
        saved(&link, "first", "split 64x8x4").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        saved(&link, "second", "split 64x8x4").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o600);
        assert!(
            found(&target, "first")
                .and(found(&target, "second"))
                .is_some()
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
