//! Are the checks able to fail? Each mutant of a shader must turn a case red.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Mutex;

use super::Case;
use super::chain::check_on_device;
use super::composed::ComposedKernels;
use super::deal::side_by_side;
use crate::gpu::compose::Source;
use crate::gpu::program::Program;
use crate::gpu::{Kernels, test_gpu};
use crate::word::WordError;

/// A change to one shader file.
#[derive(Debug)]
pub struct Mutant {
    pub file: &'static str,
    /// A piece of the text, and what replaces it.
    pub from: &'static str,
    pub to: &'static str,
    /// What that breaks.
    pub breaks: &'static str,
    /// The problem lines of cases that catch it. Without any, all cases are searched.
    pub lines: &'static [&'static str],
}

/// Writes a table of mutants: `"file": "text" => "replacement", "what breaks";`. Where few cases notice, the problem line of
/// one of them stands last: `, "what breaks", "n2c1 nc f32 train";`
macro_rules! mutants {
    ($($file:literal: $from:literal => $to:literal, $breaks:literal $(, $line:literal)?;)+) => {
        &[$($crate::norm::proof::mutants::Mutant {
            file: $file,
            from: $from,
            to: $to,
            breaks: $breaks,
            lines: &[$($line)?],
        }),+]
    };
}
pub(crate) use mutants;

/// The files with one of them mutated. Leaked: programs hold static sources.
fn mutated(mutant: &Mutant, sources: &[&'static [Source]]) -> &'static [&'static [Source]] {
    let mut found = 0;
    let folders: Vec<&'static [Source]> = sources
        .iter()
        .map(|folder| {
            let files: Vec<Source> = folder
                .iter()
                .map(|source| {
                    if source.name != mutant.file {
                        return *source;
                    }
                    found += source.text.matches(mutant.from).count();
                    let text = source.text.replace(mutant.from, mutant.to);
                    Source {
                        text: Box::leak(text.into_boxed_str()),
                        ..*source
                    }
                })
                .collect();
            &*Box::leak(files.into_boxed_slice())
        })
        .collect();
    assert!(found > 0, "{} has no {:?}", mutant.file, mutant.from);
    Box::leak(folders.into_boxed_slice())
}

/// Every mutant must be caught by the case that it names, or by one of the cases, which are tried in order: those first whose
/// kernels compile fast.
pub fn every_mutant_is_caught<C>(mutants: &[Mutant], cases: &[C])
where
    C: Case + FromStr<Err = WordError>,
{
    // The cases that each file takes part in, by index.
    let mut by_file = HashMap::<&str, Vec<usize>>::new();
    let mut composed = ComposedKernels::default();
    let caps = test_gpu().kernels().caps();
    for (index, case) in cases.iter().enumerate() {
        let Some(program) = case.program(caps) else {
            continue;
        };
        for dispatch in &program.dispatches {
            for &file in &composed.of(&program, dispatch).files {
                let cases = by_file.entry(file).or_default();
                if cases.last() != Some(&index) {
                    cases.push(index);
                }
            }
        }
    }
    let survivors = Mutex::new(Vec::new());
    side_by_side(mutants, |mutant| {
        // Only some adapters move 64 bits at a time.
        if ["element_f32_wide", "affine_wide", "wide_words"].contains(&mutant.file)
            && !caps.wide_words
        {
            return Ok(false);
        }
        // Compiled kernels are kept by name, so that each mutant needs its own.
        let kernels = Kernels::new(test_gpu().device()).expect("the test device");
        let named = mutant.lines.iter().map(|line| line.parse());
        let mut candidates: Vec<C> = named
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{e}"))?;
        if candidates.is_empty() {
            let indices = by_file.get(mutant.file).into_iter().flatten();
            candidates.extend(indices.map(|&index| cases[index]));
        }
        let caught = candidates.iter().any(|case| {
            let program = case.program(kernels.caps());
            assert!(
                program.is_some() || mutant.lines.is_empty(),
                "{case} does not exist"
            );
            program.is_some_and(|program| {
                let program = Program {
                    sources: mutated(mutant, program.sources),
                    ..program
                };
                check_on_device(case, &kernels, &program).is_err()
            })
        });
        if !caught {
            let Mutant { file, breaks, .. } = mutant;
            survivors.lock().unwrap().push(format!("{file}: {breaks}"));
        }
        Ok(caught)
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "not caught: {survivors:#?}");
}
