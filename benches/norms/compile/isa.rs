//! What the machine code of an AMD GPU says of a kernel's main loop.

/// Bytes that a lane loads, or stores, by one instruction, and 0 for all others. Scalar loads, which are for all lanes at once,
/// do not count.
fn moved(instruction: &str, way: &str) -> u32 {
    let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
    let size = ["buffer_", "global_", "flat_"].iter().find_map(|prefix| {
        let rest = mnemonic.strip_prefix(prefix)?.strip_prefix(way)?;
        rest.strip_prefix('_')
    });
    match size {
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
    pub loaded: u32,
    /// Bytes that it stores.
    pub stored: u32,
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
            this.stored += moved(instruction, "store");
            let bytes = moved(instruction, "load");
            if bytes > 0 {
                this.loaded += bytes;
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

/// Of the loops that load and have no other such loop in them: the one in which a lane loads the most bytes a round, of those
/// the shortest. None if no loop loads.
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
    // The last branch back to each loop's first instruction.
    let mut ends = std::collections::BTreeMap::new();
    for (at, line) in instructions.iter().enumerate() {
        let mut words = line.split_whitespace();
        if let (Some(branch), Some(name)) = (words.next(), words.next())
            && branch.contains("branch")
            && let Some(&target) = blocks.get(name).filter(|&&target| target <= at)
        {
            ends.insert(target, at);
        }
    }
    let loops = ends
        .into_iter()
        .map(|(begin, end)| (begin..=end, Loop::of(&instructions[begin..=end])));
    let loading: Vec<_> = loops.filter(|(_, body)| body.loaded > 0).collect();
    let innermost = loading.iter().filter(|(range, _)| {
        let mut others = loading.iter().filter(|(other, _)| other != range);
        !others.any(|(other, _)| range.contains(other.start()) && range.contains(other.end()))
    });
    let bodies = innermost.map(|(_, body)| *body);
    bodies.max_by_key(|body| (body.loaded, std::cmp::Reverse(body.instructions)))
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
        \ts_cbranch_scc1 BB2\n\
        \ts_waitcnt lgkmcnt(0)\n\
        \ts_waitcnt vmcnt(1)\n\
        \tbuffer_load_dwordx4 v[0:3], v0, s[0:3], 0 offen\n\
        \ts_waitcnt vmcnt(0)\n\
        \tglobal_store_b64 v0, v[0:1], s[0:3]\n\
        \ts_branch BB2\n\
        \tv_add_f32_e32 v1, v2, v3\n\
        \ts_branch BB0\n\
        BB3:\n\
        \ts_endpgm\n";
    let found = main_loop(isa).unwrap();
    let expected = Loop {
        instructions: 9,
        loaded: 48,
        stored: 8,
        in_flight: 2,
    };
    assert_eq!(found, expected);
    assert_eq!(main_loop("BB0:\n\ts_endpgm\n"), None);
}
