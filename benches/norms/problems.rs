//! Lists of problems.

use wgpu_norm::Dtype;

/// Problems that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum List {
    /// One of every kind.
    Common,
    /// The 53 layers of ResNet-50, 224 x 224 pixels, with their multiplicities.
    Resnet50,
    /// Few channels, each of them long.
    FewChannels,
    /// Many channels, each of them short.
    ManyChannels,
    /// One spatial extent, and none.
    OneD,
    /// Three spatial extents.
    ThreeD,
    /// InstanceNorm.
    Instance,
    /// GroupNorm of image networks, with and without SiLU.
    Group,
    /// LayerNorm of transformers, with and without the addition of a residual before it.
    Layer,
    /// RMSNorm of transformers, with and without the addition of a residual before it.
    Rms,
}

/// Rows and their lengths.
const ROWS: [&str; 4] = ["n4096c1024", "n512c4096", "n16384c128", "n1024c12288"];

/// Lines of a norm of rows, alone and after the addition of a residual.
fn rows(norm: &str) -> Vec<(String, u32)> {
    let alone = ROWS.iter().map(|rows| format!("{norm} {rows}"));
    let added = ROWS[..3]
        .iter()
        .map(|rows| format!("{norm} {rows} prenorm"));
    alone.chain(added).map(|line| (line, 1)).collect()
}

impl List {
    /// Lines without layout and storage type, and how often each counts.
    pub fn problems(self, batch: usize) -> Vec<(String, u32)> {
        let once = |extents: &[&str]| extents.iter().map(|&e| (e.to_owned(), 1)).collect();
        match self {
            Self::Common => once(&[
                "n32c64h56w56",
                "n32c256h14w14",
                "n32c512h7w7",
                "n8c3h224w224",
                "n4096c256",
                "n2c32d16h28w28",
            ]),
            Self::Resnet50 => [
                (64, 112, 1),
                (64, 56, 6),
                (256, 56, 4),
                (128, 56, 1),
                (128, 28, 7),
                (512, 28, 5),
                (256, 28, 1),
                (256, 14, 11),
                (1024, 14, 7),
                (512, 14, 1),
                (512, 7, 5),
                (2048, 7, 4),
            ]
            .map(|(channels, side, count)| (format!("n{batch}c{channels}h{side}w{side}"), count))
            .to_vec(),
            Self::FewChannels => once(&[
                "n1c1h2048w2048",
                "n8c3h512w512",
                "n64c8h128w128",
                "n16c16h160w160",
            ]),
            Self::ManyChannels => {
                once(&["n32c2048h7w7", "n64c4096h4w4", "n256c8192", "n16c1280h8w8"])
            }
            Self::OneD => once(&["n32c64l4096", "n16c128l1001", "n4096c512", "n1024c1000"]),
            Self::ThreeD => once(&["n2c32d32h56w56", "n4c64d16h28w28", "n8c256d4h7w7"]),
            Self::Instance => once(&["instance n8c64h56w56", "instance n6c256d2h28w28"]),
            Self::Group => once(&[
                "group n8c256h28w28 groups=32",
                "group n1c128h256w256 groups=32",
                "group n8c256h28w28 groups=32 silu",
                "group n1c128h256w256 groups=32 silu",
                "group n2c320h96w96 groups=32 silu",
            ]),
            Self::Layer => rows("layer"),
            Self::Rms => rows("rms"),
        }
    }
}

/// Where the channels stand, by the name of a layout of any rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    #[value(name = "nchw", aliases = ["nc", "ncl", "ncdhw"])]
    First,
    #[value(name = "nhwc", aliases = ["nlc", "ndhwc"])]
    Last,
}

/// A problem line: one without layout and storage type, with a layout's name of the right rank after the extents, and a
/// storage type.
pub fn line(text: &str, order: Order, dtype: Dtype) -> String {
    let words = text.split(' ').map(|word| match word.find('c') {
        Some(at) if word.contains(|c: char| c.is_ascii_digit()) && !word.contains('=') => {
            let spatial: String = word[at + 1..]
                .chars()
                .filter(char::is_ascii_alphabetic)
                .collect();
            match order {
                Order::First => format!("{word} nc{spatial} {dtype}"),
                Order::Last => format!("{word} n{spatial}c {dtype}"),
            }
        }
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}
