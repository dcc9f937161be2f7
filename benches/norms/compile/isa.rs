//! What the machine code of an AMD GPU says of a kernel's main loop.

/// Bytes that a lane loads by one instruction, and 0 for those that load nothing from memory. Scalar loads, which are for all
/// lanes at once, do not count.
fn loaded(instruction: &str) -> u32 {
    let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
    let is_load = ["buffer_load_", "global_load_", "flat_load_"]
        .iter()
        .find_map(|prefix| mnemonic.strip_prefix(prefix));
    match is_load {
        Some("dwordx4" | "b128") => 16,
        Some("dwordx3" | "b96") => 12,
        Some("dwordx2" | "b64") => 8,
        Some("dword" | "b32") => 4,
        Some(_) => 2,
        None => 0,
    }
}

/// The number in `vmcnt(2)`: how many loads may still be under way afterwards.
fn waits_for(instruction: &str) -> Option<usize> {
    let (_, rest) = instruction.split_once("vmcnt(")?;
    rest.split(')').next()?.trim().parse().ok()
}

/// A loop of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loop {
    pub instructions: usize,
    /// Bytes that a lane loads in one round.
    pub bytes: u32,
    /// The most loads of a lane that are under way at once.
    pub in_flight: usize,
}

impl Loop {
    fn of(body: &[&str]) -> Self {
        let mut this = Self {
            instructions: body.len(),
            ..Self::default()
        };
        let mut pending = 0;
        for instruction in body {
            let bytes = loaded(instruction);
            if bytes > 0 {
                this.bytes += bytes;
                pending += 1;
                this.in_flight = this.in_flight.max(pending);
            }
            if let Some(left) = waits_for(instruction) {
                pending = pending.min(left);
            }
        }
        this
    }
}

/// The loop in which a lane loads the most bytes a round, of those the shortest; none if no loop loads.
pub fn main_loop(isa: &str) -> Option<Loop> {
    let mut instructions = Vec::new();
    // The number of the block's first instruction, by its name.
    let mut blocks = std::collections::HashMap::new();
    for line in isa.lines() {
        let line = line.split([';', '/']).next().unwrap_or_default().trim();
        match line.strip_suffix(':') {
            Some(name) => _ = blocks.insert(name.to_owned(), instructions.len()),
            None if line.is_empty() => {}
            None => instructions.push(line),
        }
    }
    let back = instructions.iter().enumerate().filter_map(|(at, line)| {
        let mut words = line.split_whitespace();
        let branch = words.next()?;
        let target = *blocks.get(words.next()?)?;
        (branch.contains("branch") && target <= at).then_some((target, at))
    });
    let loops = back.map(|(begin, end)| Loop::of(&instructions[begin..=end]));
    let loading = loops.filter(|body| body.bytes > 0);
    loading.max_by_key(|body| (body.bytes, std::cmp::Reverse(body.instructions)))
}

#[test]
fn the_main_loop_is_the_one_that_loads() {
    let isa = "BB0:\n\
        \tbuffer_load_dwordx4 v[0:3], v0, s[0:3], 0 offen ; e0381000 80000000\n\
        BB1:\n\
        \tv_add_f32_e32 v1, v2, v3\n\
        \ts_cbranch_scc0 BB1\n\
        BB2:\n\
        \tbuffer_load_dwordx4 v[0:3], v0, s[0:3], 0 offen\n\
        \tglobal_load_b128 v[4:7], v0, s[0:3]\n\
        \ts_waitcnt lgkmcnt(0)\n\
        \ts_waitcnt vmcnt(1)\n\
        \tbuffer_load_dwordx4 v[0:3], v0, s[0:3], 0 offen\n\
        \ts_waitcnt vmcnt(0)\n\
        \ts_branch BB2\n\
        BB3:\n\
        \ts_endpgm\n";
    let found = main_loop(isa).unwrap();
    let expected = Loop {
        instructions: 7,
        bytes: 48,
        in_flight: 2,
    };
    assert_eq!(found, expected);
    assert_eq!(main_loop("BB0:\n\ts_endpgm\n"), None);
}
