//! What the compiler of AMD's GPUs makes of the kernels stays within budgets. No GPU is needed: Mesa's driver compiles for
//! families that are not there.

#[path = "../benches/norms/compile/mod.rs"]
mod compile;

use std::process::Command;

use compile::{Row, Work, answer, ask, asked, caps};
use wgpu_norm::{Form, Launch, batch_norm, group_norm, instance_norm, layer_norm, rms_norm};

/// GCN 4 and 5, RDNA 2 and 3.
const FAMILIES: [&str; 4] = ["polaris10", "vega10", "navi21", "gfx1100"];

/// Every kernel, by lines that force it, in the storage types and layouts that have code of their own. The largest units that
/// the resident strategy takes are among them.
const LINES: [&str; 62] = [
    "n32c64h56w56 nchw f32 train split",
    "n32c64h56w56 nhwc f16 train split",
    "n32c512h7w7 nchw bf16 train split",
    "n2c32d16h28w28 ncdhw f32 train reread",
    "n2c32d16h28w28 ncdhw f16 relu train reread",
    "n8c32h16w32 nchw f32 add-relu train resident",
    "n8c32h16w32 nchw f16 silu train resident",
    "n16c32h28w28 nchw bf16 relu train resident",
    "n32c64h56w56 nhwc f16 eval in-place",
    "n32c512h7w7 nchw f32 eval",
    "n32c64h56w56 nchw f32 backward split",
    "n32c64h56w56 nhwc f16 silu backward split",
    "n32c512h7w7 nchw bf16 backward split",
    "n32c256h14w14 nchw f16 relu backward reread",
    "n32c256h14w14 nchw f16 relu backward resident",
    "n32c256h14w14 nchw f32 silu backward resident",
    "n32c256h14w14 nchw f32 frozen-backward",
    "n32c256h14w14 nhwc bf16 add-relu frozen-backward",
    "n32c64h56w56 nchw f32 eval",
    "n32c64h56w56 nchw f16 eval f16=packing",
    "n32c64h56w56 nchw f16 eval f16=native",
    "n32c64h56w56 nchw f16 train split f16=packing",
    "n32c64h56w56 nchw f16 train split f16=native",
    "n32c64h56w56 nchw f16 backward split f16=packing",
    "n32c64h56w56 nchw f16 backward split f16=native",
    "n32c64h55w55 nchw f32 train split",
    "n32c64h55w55 nchw f16 train split f16=packing",
    "n32c64h55w55 nchw f16 train split f16=native",
    "n32c64h55w55 nchw bf16 train split",
    "n32c64h55w55 nchw f32 backward split",
    "n32c64h55w55 nchw bf16 backward split",
    "n32c64h55w55 nchw bf16 add-relu frozen-backward",
    "n32c64h56w56 nchw f32 stats",
    "n32c64h56w56 nchw f32 combine=4",
    "n32c64h56w56 nchw f32 finalize=4",
    "n32c64h56w56 nchw f32 backward-combine=4",
    "group n8c256h28w28 nchw f16 groups=32 silu forward",
    "group n8c256h28w28 nhwc f32 groups=32 backward",
    "layer n1024c12288 nc f32 forward",
    "layer n1024c8192 nc f16 forward",
    "layer n1024c20000 nc f32 forward",
    "layer n1024c32768 nc bf16 forward",
    "layer n1024c32768 nc f16 forward f16=native",
    "layer n1024c16384 nc f16 forward f16=packing",
    "layer n1024c12288 nc f16 backward f16=native",
    "n16c32h28w28 nchw f16 relu train resident f16=packing",
    "n32c256h14w14 nchw f16 relu backward resident f16=native",
    "layer n1024c8192 nc f32 backward",
    "layer n1024c16384 nc bf16 backward",
    "layer n1024c24576 nc bf16 backward",
    "n32c128h28w28 nchw f32 train",
    "n32c128h28w28 nchw bf16 train",
    "n32c128h28w28 nchw f16 relu train f16=native",
    "n64c128h28w28 nchw bf16 train",
    "n64c256h14w14 nchw f16 relu backward f16=native",
    "n64c256h14w14 nchw bf16 relu backward",
    "n128c256h14w14 nchw bf16 backward",
    "layer n1024c4096 nc f16 backward",
    "layer n1024c12288 nc bf16 backward",
    "rms n4096c1024 nc f16 prenorm backward",
    "rms n4096c1024 nc bf16 backward rounding=before-weight",
    "instance n8c64h56w56 nchw f16 backward",
];

fn launches(line: &str) -> Vec<Launch> {
    let (caps, form) = (caps(), Form::default());
    let launches = match line.split_whitespace().next() {
        Some("group") => line
            .parse::<group_norm::Line>()
            .unwrap()
            .launches(&caps, form),
        Some("layer") => line
            .parse::<layer_norm::Line>()
            .unwrap()
            .launches(&caps, form),
        Some("rms") => line
            .parse::<rms_norm::Line>()
            .unwrap()
            .launches(&caps, form),
        Some("instance") => line
            .parse::<instance_norm::Line>()
            .unwrap()
            .launches(&caps, form),
        _ => line
            .parse::<batch_norm::Line>()
            .unwrap()
            .launches(&caps, form),
    };
    launches.unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn value_bytes(line: &str) -> u64 {
    if line.split_whitespace().any(|word| word == "f32") {
        4
    } else {
        2
    }
}

fn works() -> Vec<Work> {
    let work = |line: &&str| Work {
        line: (*line).to_owned(),
        value_bytes: value_bytes(line),
        launches: launches(line),
    };
    let mut works: Vec<_> = LINES.iter().map(work).collect();
    // The kernel that holds the most, made to hold three times as much: budgets that it kept would be none.
    let mut spoiled = work(&"n16c32h28w28 nchw bf16 relu train resident");
    spoiled.line = SPOILED.to_owned();
    for launch in &mut spoiled.launches {
        let constant = "const REGISTER_VECTORS = ";
        launch.wgsl = launch.wgsl.replace(constant, &format!("{constant}80u + "));
    }
    works.push(spoiled);
    works
}

const SPOILED: &str = "spoiled";

/// The most arithmetic that kernels over f16 may have, over that of the same kernel over f32, where the device converts. GCN 5
/// converts in instructions of their own, RDNA within multiplications.
fn most_f16_over_f32(family: &str) -> f64 {
    if family == "vega10" { 1.4 } else { 1.3 }
}

/// The kernels over f16 in `rows` that convert by the device, with their arithmetic over that of the same kernel over f32.
fn f16_over_f32(rows: &[Row]) -> Vec<(&Row, f64)> {
    let ratio = |row: &'_ Row| {
        let line = row.problem.replace("f16 ", "f32 ");
        let line = line
            .split(" f16=")
            .next()
            .filter(|line| *line != row.problem)?
            .to_owned();
        let same = |other: &&Row| {
            (&other.family, &other.kernel, &other.problem) == (&row.family, &row.kernel, &line)
        };
        let other = rows.iter().find(same)?;
        Some(row.inverse_throughput / other.inverse_throughput)
    };
    let converts = rows.iter().filter(|row| row.problem.contains(" f16="));
    converts
        .filter_map(|row| Some((row, ratio(row)?)))
        .collect()
}

/// Instructions of single lanes that a GPU of the family runs while its memory moves a byte: lanes and clock of a Radeon RX
/// 580, RX Vega 64, RX 6900 XT and RX 7900 XTX, over their bandwidths.
fn instructions_per_byte(family: &str) -> f64 {
    match family {
        "polaris10" => 2304.0 * 1.34 / 256.0,
        "vega10" => 4096.0 * 1.546 / 484.0,
        "navi21" => 5120.0 * 2.25 / 512.0,
        "gfx1100" => 6144.0 * 2.5 / 960.0,
        other => panic!("nobody has said what {other} is"),
    }
}

/// Whether activations are converted by integer arithmetic. That is for devices whose conversions fail.
fn converts_by_integers(row: &Row) -> bool {
    row.problem.contains(" f16 ") && !row.problem.contains(" f16=")
}

/// What is over its budget.
fn excess(row: &Row) -> Vec<String> {
    let mut excess = Vec::new();
    let mut budget = |what: &str, within: bool, figure: f64| {
        if !within {
            let Row {
                family,
                problem,
                kernel,
                ..
            } = row;
            excess.push(format!("{family}: {kernel} of {problem}: {what} {figure}"));
        }
    };
    // Registers that go to memory and back cost more than the pass that they were to save.
    budget("registers spilled", row.spilled == 0.0, row.spilled);
    budget("bytes of scratch", row.scratch == 0.0, row.scratch);
    // An instruction cache holds 32 KB, and code beyond it is fetched again by every subgroup.
    budget("bytes of code", row.code <= 32.0 * 1024.0, row.code);
    // A second subgroup works while one waits for memory. Where units are held in registers, one subgroup of GCN may fill
    // a SIMD unit: it has all its loads under way at once.
    let needed = if row.kernel.ends_with("_resident") {
        1.0
    } else {
        2.0
    };
    budget("subgroups a SIMD unit", row.waves >= needed, row.waves);
    // Loads take hundreds of cycles: one at a time would leave memory idle. Integer arithmetic takes the time itself.
    if let Some(in_flight) = row.in_flight {
        // Backward of add+ReLU stores a gradient between the loads of two vectors, and with frozen statistics its second pass
        // has one load for each of two. `backward_frozen` keeps few registers, for more subgroups.
        let backward = row.kernel.contains(".backward_");
        let needed = match row.problem.contains(" add-relu ") && backward {
            true => 2.0,
            false if converts_by_integers(row) || row.problem.contains(" frozen-") => 3.0,
            false => 4.0,
        };
        budget("loads in flight", in_flight >= needed, in_flight);
    }
    // The pass waits for memory, not for arithmetic.
    if let Some(per_byte) = row.per_byte.filter(|_| !converts_by_integers(row)) {
        let most = instructions_per_byte(&row.family);
        budget("instructions a byte", per_byte <= most, per_byte);
    }
    excess
}

/// The process that compiles for one family; nothing otherwise.
#[test]
fn compiling_for_one_family() {
    if let Some(family) = asked() {
        answer(&family, &works(), false).unwrap();
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Mesa's driver of AMD GPUs")]
fn kernels_keep_their_budgets_on_four_families() {
    if asked().is_some() {
        return;
    }
    if std::env::var_os("WGPU_NORM_NO_RADV").is_some() {
        println!("not checked: WGPU_NORM_NO_RADV says that there is no driver to ask");
        return;
    }
    let mut all = Vec::new();
    for family in FAMILIES {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "budgets::compiling_for_one_family",
            "--exact",
            "--nocapture",
        ]);
        let (rows, _) = ask(family, command).unwrap();
        assert!(
            rows.len() > LINES.len(),
            "{family}: only {} kernels",
            rows.len()
        );
        let names = rows
            .iter()
            .filter_map(|row| row.kernel.split('.').next_back());
        let kernels: std::collections::BTreeSet<_> = names.collect();
        assert_eq!(kernels.len(), 12, "{kernels:?}");
        all.extend(rows);
    }
    // Three families have f16, and all can pack.
    let ratios = f16_over_f32(&all);
    assert_eq!(ratios.len(), 7 * (3 + 4), "{ratios:#?}");
    let over = ratios
        .into_iter()
        .filter(|(row, ratio)| *ratio > most_f16_over_f32(&row.family));
    let over: Vec<_> = over.collect();
    assert!(over.is_empty(), "{over:#?}");
    let (spoiled, sound): (Vec<_>, Vec<_>) = all.iter().partition(|row| row.problem == SPOILED);
    let over: Vec<_> = sound.into_iter().flat_map(excess).collect();
    assert!(over.is_empty(), "{over:#?}");
    assert_eq!(spoiled.len(), FAMILIES.len());
    for row in spoiled {
        assert!(!excess(row).is_empty(), "{row:?}");
    }
}

#[test]
fn each_budget_can_be_exceeded() {
    let row =
        Row::parse("navi21,n2c3,batch_norm.normalize,32,0,0,0,16,1384,275,763,5.9,0.7,4").unwrap();
    assert!(excess(&row).is_empty());
    let converting = row.csv().replace("n2c3", "n2c3 f16 eval f16=native");
    let other = row
        .csv()
        .replace("n2c3", "n2c3 f32 eval")
        .replace(",763,", ",500,");
    let rows = [converting, other].map(|row| Row::parse(&row).unwrap());
    let ratio = f16_over_f32(&rows)[0].1;
    assert!(ratio > most_f16_over_f32("navi21"), "{ratio}");
    for (column, value, what) in [
        (4, "3", "registers spilled 3"),
        (5, "64", "bytes of scratch 64"),
        (7, "1", "subgroups"),
        (8, "40000", "bytes of code 40000"),
        (12, "23", "instructions a byte 23"),
        (13, "3", "loads in flight 3"),
    ] {
        let csv = row.csv();
        let mut fields: Vec<_> = csv.split(',').collect();
        fields[column] = value;
        let found = excess(&Row::parse(&fields.join(",")).unwrap());
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }
}
