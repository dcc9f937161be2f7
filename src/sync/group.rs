//! The ranks that have a batch together, and how they make one of what each of them has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::collective::Collective;
use super::merge::{Nothing, Payload, Weighted};
use super::message::{Header, Operation, agreed, read};
use crate::error::{Error, SyncError};
use crate::norm::options::setters;

/// How the ranks of a [`Group`] exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOptions {
    /// The longest wait for the other ranks, in each call. Default two minutes: the first step of a rank may compile
    /// kernels.
    pub timeout: Duration,
    /// The most ranks that exchange directly; at least 2. More ranks form a tree, in branches of at most 8 ranks, or of
    /// this many if that is fewer. Default 32. The same on all ranks.
    pub fan_out: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            fan_out: 32,
        }
    }
}

setters!(GroupOptions: timeout: Duration, fan_out: usize);

/// The ranks that share a batch: torch's process group. Cheap to clone; clones are the same group.
///
/// All ranks make the same calls on a group and its layers, in the same order. That order is checked: a rank that does
/// something else gives [`SyncError::Disagree`] on all of them. Two threads of a rank that train at the same time need a
/// group each ([`split`](Self::split)), which are made one after the other, before the threads begin. An engine serves one
/// group and what is split from it.
#[derive(Clone, Debug)]
pub struct Group {
    engine: Arc<dyn Collective>,
    levels: Arc<Level>,
    options: GroupOptions,
    layers: Arc<AtomicU32>,
    reductions: Arc<AtomicU64>,
}

impl Group {
    /// All ranks of an engine, with the default options. Every rank calls it.
    ///
    /// # Errors
    /// As [`with_options`](Self::with_options).
    pub fn new(engine: impl Collective + 'static) -> Result<Self, SyncError> {
        Self::with_options(engine, GroupOptions::default())
    }

    /// All ranks of an engine. Every rank calls it.
    ///
    /// # Errors
    /// [`SyncError::Setting`] for a `fan_out` below 2; [`SyncError::Disagree`] if it is not the same on all ranks;
    /// [`SyncError::Malformed`] if a rank runs another version of the crate; the engine's errors.
    pub fn with_options(
        engine: impl Collective + 'static,
        options: GroupOptions,
    ) -> Result<Self, SyncError> {
        Self::of(Arc::new(engine), options)
    }

    fn of(engine: Arc<dyn Collective>, options: GroupOptions) -> Result<Self, SyncError> {
        let refused = (options.fan_out < 2).then(|| SyncError::Setting {
            field: "fan_out",
            problem: format!("must be at least 2, got {}", options.fan_out),
        });
        let deadline = after(options.timeout);
        // Ranks that disagree about the tree could not tell each other so within it.
        let header = Header::new(Operation::Join, 0, options.fan_out);
        let body: Result<&[u8], &SyncError> = refused.as_ref().map_or(Ok(&[]), Err);
        let all = engine.all_gather(&header.message(body), deadline)?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let joined = merged::<Nothing>(&all, &|rank| rank);
        read(&joined)
            .map_err(|problem| SyncError::Malformed { rank: 0, problem })?
            .body?;
        let branch = branch(engine.size(), options.fan_out);
        let levels = Level::build(engine.clone(), 1, 0, branch, deadline)?;
        Ok(Self {
            engine,
            levels: Arc::new(levels),
            options,
            layers: Arc::new(AtomicU32::new(0)),
            reductions: Arc::new(AtomicU64::new(0)),
        })
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.engine.rank()
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.engine.size()
    }

    /// How the ranks exchange.
    pub fn options(&self) -> GroupOptions {
        self.options
    }

    /// The engine that connects the ranks.
    pub fn engine(&self) -> &dyn Collective {
        &*self.engine
    }

    /// The ranks that give the same `color`, in their order, as a group of their own with the same options. Every rank of
    /// this group calls it.
    ///
    /// # Errors
    /// The engine's.
    pub fn split(&self, color: u32) -> Result<Self, SyncError> {
        let deadline = after(self.options.timeout);
        Self::of(self.engine.split(color, deadline)?, self.options)
    }

    /// Replaces `values` by their mean over all ranks, each with its `weight`: gradients of a mean loss, with the number
    /// of samples that each rank has. The sums are in f64 and in the order of the ranks, so all ranks get the same bits.
    /// Values of a rank with weight 0 may be anything. If all weights are 0, nothing changes.
    ///
    /// Every rank gets the values of its neighbours, which is well for the parameters of a small network. For a large one
    /// take the engine's own reduction.
    ///
    /// # Errors
    /// [`SyncError::Setting`] for a weight that is negative or no number, also on the other ranks as
    /// [`SyncError::Remote`]; [`SyncError::Disagree`] for another number of values; the engine's. The values have not
    /// changed then.
    pub fn average(&self, values: &mut [f32], weight: f64) -> Result<(), Error> {
        let own = match weight >= 0.0 && weight.is_finite() {
            true => Ok(Weighted::new(weight, values)),
            false => Err(Error::Sync(SyncError::Setting {
                field: "weight",
                problem: format!("must be 0 or more, got {weight}"),
            })),
        };
        let merged = self.reduce(Operation::Average, values.len(), own)?;
        if let Some(means) = merged.means() {
            values.copy_from_slice(&means);
        }
        Ok(())
    }

    /// Replaces `values` by their sum over all ranks: gradients of parts of one mean loss. Otherwise as
    /// [`average`](Self::average).
    ///
    /// # Errors
    /// As [`average`](Self::average).
    pub fn sum(&self, values: &mut [f32]) -> Result<(), Error> {
        let own = Ok(Weighted::new(1.0, values));
        let merged = self.reduce(Operation::Sum, values.len(), own)?;
        let sums = values.iter_mut().zip(&merged.sums);
        sums.for_each(|(value, &sum)| *value = sum as f32);
        Ok(())
    }

    fn reduce(
        &self,
        operation: Operation,
        length: usize,
        own: Result<Weighted, Error>,
    ) -> Result<Weighted, Error> {
        let header = Header::new(operation, self.reductions.load(Ordering::Relaxed), length);
        let merged = self.exchange(&header, own)?;
        self.reductions.fetch_add(1, Ordering::Relaxed);
        Ok(merged)
    }

    /// The number of a new layer. All ranks make their layers in the same order.
    pub(super) fn new_layer(&self) -> u32 {
        self.layers.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes one of what all ranks have. A rank that has an error takes part with it: it gets its own error back, and the
    /// others get that as [`SyncError::Remote`].
    pub(super) fn exchange<P: Payload>(
        &self,
        header: &Header,
        own: Result<P, Error>,
    ) -> Result<P, Error> {
        let (all, ()) = self.exchange_with(header, own.map(|payload| (payload, ())))?;
        Ok(all)
    }

    /// As [`exchange`](Self::exchange), and gives back what this rank needs to go on with it.
    pub(super) fn exchange_with<P: Payload, R>(
        &self,
        header: &Header,
        own: Result<(P, R), Error>,
    ) -> Result<(P, R), Error> {
        let message = match &own {
            Ok((payload, _)) => header.message(Ok(&payload.bytes())),
            Err(error) => header.message(Err(&SyncError::Remote {
                rank: self.rank(),
                message: error.to_string(),
            })),
        };
        let time = Time {
            deadline: after(self.options.timeout),
            grace: (self.options.timeout / 4).min(LONGEST_GRACE),
        };
        let all = self.levels.exchange::<P>(message, time);
        // What happened here says more than what the others made of it.
        let (_, rest) = own?;
        let all = all?;
        let malformed = |problem| SyncError::Malformed { rank: 0, problem };
        let message = read(&all).map_err(malformed)?;
        let all = payload(message.body?, header).ok_or_else(|| malformed(LENGTH))?;
        Ok((all, rest))
    }
}

/// The moment so far from now.
fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    // What no clock can tell is as good as a year.
    now.checked_add(timeout)
        .unwrap_or_else(|| now + Duration::from_secs(365 * 86_400))
}

const LENGTH: &str = "its numbers have another length than its header says";

fn payload<P: Payload>(body: &[u8], header: &Header) -> Option<P> {
    P::read(body, header.length())
}

/// The most ranks of a branch of a tree. What a rank sends and receives grows with it, the number of levels falls.
const BRANCH: usize = 8;

/// How many of `size` ranks exchange directly: all, or in a tree of as few levels as can be, no more than it takes.
fn branch(size: usize, fan_out: usize) -> usize {
    if size <= fan_out {
        return fan_out;
    }
    let holds = |branch: usize, levels: u32| {
        let ranks = branch.checked_pow(levels);
        ranks.is_none_or(|ranks| ranks >= size)
    };
    let most = fan_out.min(BRANCH);
    let levels = (1..usize::BITS).find(|&levels| holds(most, levels));
    let levels = levels.unwrap_or(usize::BITS);
    (2..most)
        .find(|&branch| holds(branch, levels))
        .unwrap_or(most)
}

/// The longest time that a level of a tree waits longer than the level below, to hear what has gone wrong there.
const LONGEST_GRACE: Duration = Duration::from_secs(1);

/// How long an exchange may take.
#[derive(Clone, Copy)]
struct Time {
    /// For the ranks of a branch to come.
    deadline: Instant,
    /// What each step through the tree has more.
    grace: Duration,
}

impl Time {
    fn after(self, steps: u32) -> Instant {
        let grace = self.grace.saturating_mul(steps);
        self.deadline.checked_add(grace).unwrap_or(self.deadline)
    }
}

/// One level of the tree: ranks that exchange directly. Their first takes part in the level above, if there is one.
#[derive(Debug)]
struct Level {
    ranks: Arc<dyn Collective>,
    /// The number of the first of them in the group, and the distance to the next.
    first: usize,
    stride: usize,
    /// How many levels are below, and how many above.
    below: u32,
    levels_above: u32,
    above: Above,
}

#[derive(Debug)]
enum Above {
    /// All ranks are here.
    Nothing,
    /// This rank goes there for the others.
    Level(Box<Level>),
    /// The first rank of this level goes there.
    ByFirst,
}

impl Level {
    /// The tree over the ranks of an engine that are `stride` apart in the group.
    fn build(
        engine: Arc<dyn Collective>,
        stride: usize,
        below: u32,
        branch: usize,
        deadline: Instant,
    ) -> Result<Self, SyncError> {
        if engine.size() <= branch {
            return Ok(Self {
                ranks: engine,
                first: 0,
                stride,
                below,
                levels_above: 0,
                above: Above::Nothing,
            });
        }
        let (part, place) = (engine.rank() / branch, engine.rank() % branch);
        let ranks = engine.split(part as u32, deadline)?;
        let firsts = engine.split((place != 0).into(), deadline)?;
        // As many as there are on all ranks of this level.
        let mut levels_above = 1;
        let mut rest = engine.size().div_ceil(branch);
        while rest > branch {
            rest = rest.div_ceil(branch);
            levels_above += 1;
        }
        let above = match place {
            0 => {
                let stride = stride.saturating_mul(branch);
                let above = Self::build(firsts, stride, below + 1, branch, deadline)?;
                Above::Level(Box::new(above))
            }
            _ => Above::ByFirst,
        };
        Ok(Self {
            ranks,
            first: part * branch * stride,
            stride,
            below,
            levels_above,
            above,
        })
    }

    /// The merged message of all ranks of the group.
    fn exchange<P: Payload>(&self, message: Vec<u8>, time: Time) -> Result<Vec<u8>, SyncError> {
        if self.ranks.size() == 1 && matches!(self.above, Above::Nothing) {
            return Ok(message);
        }
        let number = |rank| self.first + rank * self.stride;
        let renumbered = |error: SyncError| error.renumbered(number);
        // What the others learn of this rank's failure.
        let gave_up = |error: &SyncError| {
            let error = match error {
                SyncError::GaveUp { .. } => error.clone(),
                error => SyncError::GaveUp {
                    rank: number(self.ranks.rank()),
                    reason: Box::new(error.clone()),
                },
            };
            Header::new(Operation::Join, 0, 0).message(Err(&error))
        };
        let arrival = time.after(self.below);
        let all = self.ranks.all_gather(&message, arrival).map_err(renumbered);
        // Those who wait for the result wait for all levels above, up and down.
        let result = time.after(self.below + 2 * self.levels_above);
        match &self.above {
            Above::Nothing => Ok(merged::<P>(&all?, &number)),
            Above::Level(above) => {
                // An error goes up, too: nobody there is to wait for it.
                let message = all
                    .as_ref()
                    .map_or_else(gave_up, |all| merged::<P>(all, &number));
                let whole = above.exchange::<P>(message, time);
                all?;
                let passed_on = whole.as_ref().map_or_else(gave_up, Clone::clone);
                let sent = self.ranks.broadcast(0, &passed_on, result);
                let whole = whole?;
                sent.map_err(renumbered)?;
                Ok(whole)
            }
            Above::ByFirst => {
                all?;
                self.ranks.broadcast(0, &[], result).map_err(renumbered)
            }
        }
    }
}

/// The messages of some ranks as one: of their numbers merged, or of the first error. `number` is that of each rank in
/// the group.
fn merged<P: Payload>(all: &[Vec<u8>], number: &impl Fn(usize) -> usize) -> Vec<u8> {
    let failed = |header: &Header, error: SyncError| header.message(Err(&error));
    let nobody = Header::new(Operation::Join, 0, 0);
    let malformed = |rank, problem| SyncError::Malformed {
        rank: number(rank),
        problem,
    };
    let mut messages = Vec::new();
    for (rank, bytes) in all.iter().enumerate() {
        match read(bytes) {
            Ok(message) => messages.push(message),
            Err(problem) => return failed(&nobody, malformed(rank, problem)),
        }
    }
    // Errors first: those of a level below come with the header of nobody.
    let mut bodies = Vec::new();
    for message in &messages {
        match &message.body {
            Ok(body) => bodies.push(*body),
            Err(error) => return failed(&nobody, error.clone()),
        }
    }
    let headers: Vec<Header> = messages.iter().map(|message| message.header).collect();
    let common = match agreed(&headers) {
        Ok(common) => common,
        Err(error) => return failed(&nobody, error.renumbered(number)),
    };
    let mut parts = Vec::new();
    for (rank, body) in bodies.into_iter().enumerate() {
        match payload::<P>(body, &common) {
            Some(part) => parts.push(part),
            None => return failed(&nobody, malformed(rank, LENGTH)),
        }
    }
    common.message(Ok(&P::merged(&parts).bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_as_small_as_the_levels_allow() {
        for (size, fan_out, expected) in [
            (1, 32, 32),
            (32, 32, 32),
            (33, 32, 6),
            (64, 32, 8),
            (65, 32, 5),
            (1024, 32, 6),
            (100, 5, 5),
            (3, 2, 2),
            (usize::MAX, 2, 2),
        ] {
            assert_eq!(branch(size, fan_out), expected, "{size} {fan_out}");
        }
    }
}
