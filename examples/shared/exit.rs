//! How programs with a report end.

use std::io;
use std::process::ExitCode;

/// The status of a program that has written its report, or says why it could not.
pub fn code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Not a success, for there is no result: the status of a program that a closed pipe's signal ends.
        Err(error) if is_closed_pipe(&error) => ExitCode::from(141),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the output's reader has seen enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
