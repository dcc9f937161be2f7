//! The way to the disk: the file of a name is whole at every moment, whatever fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{small_file, two_values};
use wgpu_norm::state::{Naming, StateFile, StoredTensor};
use wgpu_norm::{LayerNormConfig, StateError, reference};

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let own = format!("wgpu-norm-state-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap())).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of many values, all of which are `number`.
fn numbered(number: u32, values: usize) -> StateFile {
    let mut file = StateFile::new();
    for name in ["a", "b", "c"] {
        let tensor = StoredTensor::from_f32([values], &vec![number as f32; values]).unwrap();
        file.insert(name, tensor).unwrap();
    }
    file
}

/// The number of a file, of which each value must be.
fn number(file: &StateFile) -> u32 {
    let first = file.get("a").unwrap().to_f32().unwrap()[0];
    for name in ["a", "b", "c"] {
        let values = file.get(name).unwrap().to_f32().unwrap();
        assert!(values.iter().all(|&value| value == first));
    }
    first as u32
}

/// This executable, to run one of its tests in a process of its own. The variable says what to do there.
fn other_process(test: &str, variable: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        &format!("state_files::disk::{test}"),
        "--exact",
        "--nocapture",
    ]);
    command
        .env(variable, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn a_file_is_written_and_read() {
    let folder = Folder::new("written");
    let file = small_file();
    file.write(folder.file()).unwrap();
    assert_eq!(StateFile::read(folder.file()).unwrap(), file);
    assert_eq!(fs::read(folder.file()).unwrap(), file.to_bytes().unwrap());
    let other = numbered(1, 5);
    other.write(folder.file()).unwrap();
    assert_eq!(StateFile::read(folder.file()).unwrap(), other);
    assert_eq!(folder.names().len(), 1, "nothing is left beside it");
}

#[test]
fn what_cannot_be_read_or_written_is_said() {
    let folder = Folder::new("said");
    let absent = folder.0.join("absent");
    let told = |result: Result<(), StateError>, part: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, StateError::Io { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    told(StateFile::read(&absent).map(drop), "absent: ");
    told(
        StateFile::read(&folder.0).map(drop),
        "is a folder, pipe or device; name a file",
    );
    told(
        small_file().write(&folder.0),
        "is a folder, pipe or device; name a file",
    );
    told(
        small_file().write(absent.join("model")),
        "name a file in a folder that can be written",
    );
    told(small_file().write("/"), "name a file");
    told(small_file().write(""), "name a file");
    assert!(folder.names().is_empty());
}

#[test]
fn no_more_is_read_than_allowed() {
    let folder = Folder::new("allowed");
    let file = numbered(3, 100);
    file.write(folder.file()).unwrap();
    let bytes = fs::metadata(folder.file()).unwrap().len();
    assert_eq!(StateFile::read_at_most(folder.file(), bytes).unwrap(), file);
    let error = StateFile::read_at_most(folder.file(), bytes - 1).unwrap_err();
    assert_eq!(
        error,
        StateError::TooLarge {
            got: bytes,
            limit: bytes - 1
        }
    );
    // Where a hole in a file takes no space, more than there is memory.
    let large = fs::OpenOptions::new()
        .write(true)
        .open(folder.file())
        .unwrap();
    large
        .set_len(if cfg!(unix) { 1 << 40 } else { bytes + 1 })
        .unwrap();
    let error = StateFile::read_at_most(folder.file(), u64::MAX).unwrap_err();
    assert!(matches!(error, StateError::Length { .. }), "{error}");
    // A header that promises what the file has, but the host does not.
    let header = format!(
        r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#,
        1u64 << 58
    );
    fs::write(
        folder.file(),
        [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat(),
    )
    .unwrap();
    let error = StateFile::read(folder.file()).unwrap_err();
    assert!(matches!(error, StateError::Length { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_left_alone() {
    let folder = Folder::new("pipes");
    let pipe = folder.0.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for path in [&pipe, Path::new("/dev/zero"), Path::new("/dev/full")] {
        let refused = "is a folder, pipe or device; name a file";
        let read = StateFile::read(path).unwrap_err().to_string();
        let written = small_file().write(path).unwrap_err().to_string();
        assert!(
            read.contains(refused) && written.contains(refused),
            "{read} {written}"
        );
    }
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let folder = Folder::new("links");
    fs::create_dir(folder.0.join("deep")).unwrap();
    let (target, link) = (folder.0.join("deep/model"), folder.0.join("link"));
    symlink("deep/model", folder.0.join("middle")).unwrap();
    symlink("middle", &link).unwrap();
    // Through links to nothing, with the permissions of any new file.
    numbered(1, 5).write(&link).unwrap();
    fs::write(folder.0.join("any"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&target), mode(&folder.0.join("any")));
    for permissions in [0o600, 0o640, 0o755] {
        fs::set_permissions(&target, fs::Permissions::from_mode(permissions)).unwrap();
        numbered(2, 5).write(&link).unwrap();
        assert_eq!(mode(&target), permissions);
    }
    for link in [&link, &folder.0.join("middle")] {
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    }
    assert_eq!(number(&StateFile::read(&target).unwrap()), 2);
    // A file that says it is not to be written.
    fs::set_permissions(&target, fs::Permissions::from_mode(0o444)).unwrap();
    let error = numbered(3, 5).write(&target).unwrap_err();
    assert!(error.to_string().contains("is read-only"), "{error}");
    assert_eq!(number(&StateFile::read(&target).unwrap()), 2);
    // A circle.
    symlink("b", folder.0.join("a")).unwrap();
    symlink("a", folder.0.join("b")).unwrap();
    let error = numbered(3, 5).write(folder.0.join("a")).unwrap_err();
    assert!(
        error.to_string().contains("is a link in a circle"),
        "{error}"
    );
    assert_eq!(folder.names().len(), 6, "{:?}", folder.names());
}

/// A folder in which no file can be made. Root may make one in any, but not in those of the kernel.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("readonly");
    let inner = folder.0.join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("model.safetensors");
    small_file().write(&path).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let privileged = fs::write(inner.join("probe"), "").is_ok();
    if !privileged {
        let error = numbered(1, 5).write(&path).unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{error}");
        assert_eq!(StateFile::read(&path).unwrap(), small_file());
    }
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
    let error = small_file()
        .write("/sys/kernel/model.safetensors")
        .unwrap_err();
    assert!(matches!(error, StateError::Io { .. }), "{error}");
    println!("tried with permissions: {}; in /sys: {error}", !privileged);
}

/// What a process of a shell's limits or of a full disk does: it saves over a file, and says how that went by its status.
#[test]
fn process_that_saves_once() {
    let Some(path) = std::env::var_os("WGPU_NORM_SAVE_ONCE") else {
        return;
    };
    let error = numbered(2, 100_000).write(path);
    std::process::exit(match error {
        Err(StateError::Io { .. }) => 40,
        Err(_) => 41,
        Ok(()) => 42,
    });
}

/// A disk that fills while the file is written: a limit on the size of files, and a small file system where one can be
/// made. The old file is as it was, and nothing is left beside it.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = Folder::new("full");
    let run = |script: &str| {
        let own = other_process(
            "process_that_saves_once",
            "WGPU_NORM_SAVE_ONCE",
            &folder.file(),
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .arg(own.get_program())
            .args(own.get_args());
        shell
            .env("WGPU_NORM_SAVE_ONCE", folder.file())
            .env("FOLDER", &folder.0);
        shell.stdout(Stdio::null()).status().unwrap().code()
    };
    numbered(1, 1000).write(folder.file()).unwrap();
    let status = run(r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#);
    assert_eq!(status, Some(40));
    assert_eq!(number(&StateFile::read(folder.file()).unwrap()), 1);
    assert_eq!(folder.names().len(), 1, "{:?}", folder.names());
    // 64 KiB of memory as a disk, seen by this process alone.
    let small = r#"mount -t tmpfs -o size=64k none "$FOLDER" || exit 50"#;
    let there = r#"[ "$(ls -A "$FOLDER")" = model.safetensors ] && cmp -s "$FOLDER"/* /proc/self/fd/3 || exit 51"#;
    let script = format!(
        r#"exec 3<"$FOLDER/model.safetensors"; {small}; cat <&3 >"$FOLDER/model.safetensors"; "$0" "$@"; status=$?
        exec 3<"$FOLDER/model.safetensors"; {there}; exit $status"#
    );
    let own = other_process(
        "process_that_saves_once",
        "WGPU_NORM_SAVE_ONCE",
        &folder.file(),
    );
    let mut shell = Command::new("unshare");
    shell
        .args(["-rm", "sh", "-c", &script])
        .arg(own.get_program())
        .args(own.get_args());
    shell
        .env("WGPU_NORM_SAVE_ONCE", folder.file())
        .env("FOLDER", &folder.0);
    match shell
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|status| status.code())
    {
        Ok(Some(40)) => println!("full file system: an error, and the old file"),
        Ok(Some(status)) if status > 40 && status != 50 => panic!("full file system: {status}"),
        other => println!("no small file system can be made here: {other:?}"),
    }
}

/// Saves files of rising numbers until it is killed.
#[test]
fn process_that_saves_for_ever() {
    let Some(path) = std::env::var_os("WGPU_NORM_SAVE_FOR_EVER") else {
        return;
    };
    let begin = StateFile::read(&path).map_or(0, |file| number(&file));
    for count in begin + 1.. {
        numbered(count, 20_000).write(&path).unwrap();
    }
}

fn saver(path: &Path) -> Child {
    other_process(
        "process_that_saves_for_ever",
        "WGPU_NORM_SAVE_FOR_EVER",
        path,
    )
    .spawn()
    .unwrap()
}

/// Waits until another process has saved once more than `last`.
fn next_number(path: &Path, last: u32) -> u32 {
    let begin = Instant::now();
    loop {
        let now = number(&StateFile::read(path).unwrap());
        if now != last {
            return now;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "nothing is saved"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// `kill -9` at any moment of a save.
#[test]
fn a_killed_process_leaves_a_whole_file() {
    let folder = Folder::new("killed");
    numbered(0, 20_000).write(folder.file()).unwrap();
    let (mut last, kills) = (0, 60);
    let moments = reference::noise(43, kills);
    for moment in moments {
        let mut child = saver(&folder.file());
        next_number(&folder.file(), last);
        thread::sleep(Duration::from_micros(((moment + 1.0) * 5000.0) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        last = number(&StateFile::read(folder.file()).expect("a whole file"));
    }
    let left = folder.names().len() - 1;
    println!("{kills} kills during {last} saves, {left} of them while a temporary file was there");
    assert!(last as usize >= kills);
    // What they left disturbs nobody.
    numbered(7, 10).write(folder.file()).unwrap();
    assert_eq!(number(&StateFile::read(folder.file()).unwrap()), 7);
}

/// Several processes and threads that save under one name. Whoever reads finds one of their files.
#[test]
fn savers_at_once_leave_one_of_their_files() {
    let folder = Folder::new("at-once");
    numbered(0, 20_000).write(folder.file()).unwrap();
    let mut children = [saver(&folder.file()), saver(&folder.file())];
    next_number(&folder.file(), 0);
    thread::scope(|scope| {
        for thread in 0..2u32 {
            let path = folder.file();
            scope.spawn(move || {
                for count in 0..20 {
                    numbered(1_000_000 + 1000 * thread + count, 20_000)
                        .write(&path)
                        .unwrap();
                    number(&StateFile::read(&path).unwrap());
                }
            });
        }
    });
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    number(&StateFile::read(folder.file()).unwrap());
}

/// What was read does not depend on the file any more.
#[test]
fn a_layer_survives_in_a_file_that_is_replaced() {
    let folder = Folder::new("replaced");
    let config = LayerNormConfig::new(2);
    let mut file = StateFile::new();
    file.insert_state("ln", &config, &two_values(), Naming::TORCH)
        .unwrap();
    file.write(folder.file()).unwrap();
    let mut read = StateFile::read(folder.file()).unwrap();
    fs::remove_file(folder.file()).unwrap();
    read.insert_state("ln2", &config, &two_values(), Naming::TORCH)
        .unwrap();
    read.write(folder.file()).unwrap();
    let names: Vec<String> = StateFile::read(folder.file())
        .unwrap()
        .names()
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["ln.bias", "ln.weight", "ln2.bias", "ln2.weight"]);
}
