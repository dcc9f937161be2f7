//! How training goes: a bar on a terminal, a line for each epoch elsewhere.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::batch::Score;

pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub fn new(epochs: usize) -> Self {
        let bar = ProgressBar::new(epochs as u64);
        if let Ok(style) =
            ProgressStyle::with_template("epoch {pos:>3} of {len} {bar:30} {msg}  {elapsed}")
        {
            bar.set_style(style);
        }
        Self { bar }
    }

    pub fn epoch(&self, epoch: usize, score: Score, out: &mut impl Write) -> io::Result<()> {
        let Score { loss, accuracy } = score;
        let message = format!("loss {loss:.4}  accuracy {accuracy:.2} %");
        // A bar is hidden where it could not be redrawn.
        if self.bar.is_hidden() {
            writeln!(
                out,
                "epoch {epoch:>3}  {message}  {:.1} s",
                self.bar.elapsed().as_secs_f64()
            )?;
        }
        self.bar.set_message(message);
        self.bar.set_position(epoch as u64);
        Ok(())
    }

    /// Leaves the bar as it is, for what is printed next to stand below it.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}
