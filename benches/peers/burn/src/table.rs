//! The table, as it is printed and recorded.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::Result;
use crate::times::Times;

/// What is printed at once, and kept for the record.
pub struct Table {
    head: String,
    rows: String,
}

impl Table {
    /// A table below lines about the measurement.
    pub fn new(head: Vec<String>) -> Self {
        let mut table = Self {
            head: String::new(),
            rows: String::new(),
        };
        head.iter().for_each(|note| table.note(note));
        println!(
            "{:<34} {:<18} {:<12} {:>9} {:>9} {:>8}",
            "problem", "pass", "contender", "ms", "min", "/ ours"
        );
        table
    }

    /// A further line. The record has it in its head.
    pub fn note(&mut self, note: &str) {
        println!("{note}");
        self.head += &format!("# {note}\n");
    }

    /// Times of a contender, as multiples of `ours` where they can be compared.
    pub fn row(
        &mut self,
        line: &str,
        pass: &str,
        contender: &str,
        times: Times,
        ours: Option<Times>,
    ) {
        let Times {
            min,
            quarter,
            median,
            three_quarter,
        } = times;
        let ratio = ours.map_or(String::new(), |ours| format!("{:.2}", median / ours.median));
        println!("{line:<34} {pass:<18} {contender:<12} {median:>9.3} {min:>9.3} {ratio:>8}");
        self.rows += &format!(
            "{line},{pass},{contender},{median:.4},{min:.4},{quarter:.4},{three_quarter:.4},{ratio}\n"
        );
    }

    /// Writes the record, to a file that is not there yet.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Self { head, rows } = self;
        let columns = "problem,pass,contender,median_ms,min_ms,quarter_ms,three_quarter_ms,ratio_to_wgpu_norm";
        write!(File::create_new(path)?, "{head}{columns}\n{rows}")?;
        Ok(())
    }
}
