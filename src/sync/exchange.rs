//! Collective calls by messages between two ranks each: every rank sends to all others, and takes one message from each.
//!
//! That is one hop, as many bytes as any other way to give everybody everything, and no exchange of lengths before.
//! Above all it knows which ranks are missing, which MPI's collectives do not tell. For the few ranks that exchange
//! directly ([`Group`](super::Group) has a tree above them) it is also as fast.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::collective::Collective;
use super::message::{read_error, write_error};
use crate::error::SyncError;

/// Messages between two ranks. Those with one source, target and channel arrive in order, and wait for no others.
pub trait Link: Debug + Send + Sync + 'static {
    /// The number of this rank.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Takes the message, and does not wait until it has arrived.
    fn send(&self, to: usize, channel: u32, bytes: &[u8]) -> Result<(), String>;

    /// The next message, if one has arrived. An error says why none will.
    fn receive(&self, from: usize, channel: u32) -> Result<Option<Vec<u8>>, String>;

    /// The targets of messages of the channel that have not left yet. An error says why they will not.
    fn unsent(&self, channel: u32) -> Result<Vec<usize>, String>;

    /// Waits a moment for something to arrive, at most until the deadline. `round` counts the moments without success.
    fn pause(&self, round: u32, deadline: Instant);

    /// Nothing more is expected of the link, and what is under way may stay so.
    fn abandon(&self) {}
}

/// Some ranks of a link.
#[derive(Debug)]
pub struct Exchange<L> {
    link: Arc<L>,
    /// The number of each rank in the link.
    members: Vec<usize>,
    rank: usize,
    /// Tells the messages of these ranks from those of other groups of them.
    context: u32,
    /// The first context that this rank has not used.
    next_context: Arc<AtomicU32>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What has arrived from each rank before it was asked for.
    inbox: Vec<VecDeque<Vec<u8>>>,
    /// Why the ranks are not in step any more.
    failed: Option<SyncError>,
}

impl<L: Link> Exchange<L> {
    /// All ranks of a link.
    pub fn new(link: L) -> Self {
        let members: Vec<usize> = (0..link.size()).collect();
        let rank = link.rank();
        Self::of(
            Arc::new(link),
            members,
            rank,
            0,
            Arc::new(AtomicU32::new(1)),
        )
    }

    fn of(
        link: Arc<L>,
        members: Vec<usize>,
        rank: usize,
        context: u32,
        next_context: Arc<AtomicU32>,
    ) -> Self {
        let inbox = members.iter().map(|_| VecDeque::new()).collect();
        let state = Mutex::new(State {
            inbox,
            failed: None,
        });
        Self {
            link,
            members,
            rank,
            context,
            next_context,
            state,
        }
    }

    /// Where the ranks' messages go.
    fn data(&self) -> u32 {
        2 * self.context
    }

    /// Where a rank says that it has given up: past messages that nobody takes any more.
    fn notices(&self) -> u32 {
        2 * self.context + 1
    }

    fn others(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(|&rank| rank != self.rank)
    }

    /// The state, unless an earlier call has failed. A second thread waits here until the call of the first is done.
    fn state(&self) -> Result<MutexGuard<'_, State>, SyncError> {
        // A thread that panicked in here has left a call half done, which the deadline of the others will find out.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.failed {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// Sends the bytes to each of `targets`, and takes a message from each of `sources`.
    fn call(
        &self,
        bytes: &[u8],
        targets: impl Iterator<Item = usize>,
        sources: &[usize],
        deadline: Instant,
    ) -> Result<Vec<Vec<u8>>, SyncError> {
        let mut state = self.state()?;
        let start = Instant::now();
        let result = self.transfer(&mut state, bytes, targets, sources, deadline, start);
        if let Err(error) = &result {
            state.failed = Some(error.clone());
            self.give_up(error);
        }
        result
    }

    fn transfer(
        &self,
        state: &mut State,
        bytes: &[u8],
        targets: impl Iterator<Item = usize>,
        sources: &[usize],
        deadline: Instant,
        start: Instant,
    ) -> Result<Vec<Vec<u8>>, SyncError> {
        let lost = |rank| move |message| SyncError::RankLost { rank, message };
        for rank in targets {
            let sent = self.link.send(self.members[rank], self.data(), bytes);
            sent.map_err(lost(rank))?;
        }
        let mut got: Vec<Option<Vec<u8>>> = sources.iter().map(|_| None).collect();
        for round in 0.. {
            let news = self.look(state, sources, &got)?;
            for (&rank, got) in sources.iter().zip(&mut got) {
                if got.is_none() {
                    *got = state.inbox[rank].pop_front();
                }
            }
            let unsent = self.link.unsent(self.data()).map_err(lost(self.rank))?;
            if unsent.is_empty() && got.iter().all(Option::is_some) {
                break;
            }
            if Instant::now() >= deadline {
                let silent = sources.iter().zip(&got).filter(|(_, got)| got.is_none());
                let mut missing: Vec<usize> = silent.map(|(&rank, _)| rank).collect();
                // A rank that does not take what it is sent is no less missing.
                let takes_nothing = |rank: &usize| unsent.contains(&self.members[*rank]);
                missing.extend(self.others().filter(takes_nothing));
                missing.sort_unstable();
                missing.dedup();
                return Err(SyncError::Timeout {
                    missing,
                    waited: start.elapsed(),
                });
            }
            if !news {
                self.link.pause(round, deadline);
            }
        }
        // There is one of each source.
        Ok(got.into_iter().flatten().collect())
    }

    /// Collects what has arrived from the other ranks, and says whether anything has. Fails if one of them has given up: it
    /// was tired of waiting for this rank, although its message for this call is here. Fails, too, if a rank of which
    /// nothing is `got` has ended.
    fn look(
        &self,
        state: &mut State,
        sources: &[usize],
        got: &[Option<Vec<u8>>],
    ) -> Result<bool, SyncError> {
        let mut news = false;
        for rank in self.others() {
            let ended = loop {
                match self.link.receive(self.members[rank], self.data()) {
                    Ok(Some(message)) => state.inbox[rank].push_back(message),
                    Ok(None) => break None,
                    Err(message) => break Some(message),
                }
                news = true;
            };
            let notice = self.link.receive(self.members[rank], self.notices());
            if let Ok(Some(reason)) = notice {
                let problem = "it has given up, for a reason that cannot be read";
                return Err(match read_error(&reason) {
                    Some(reason) => SyncError::GaveUp {
                        rank,
                        reason: Box::new(reason),
                    },
                    None => SyncError::Malformed { rank, problem },
                });
            }
            let mut awaited = sources.iter().zip(got).filter(|(_, got)| got.is_none());
            let nothing_came = state.inbox[rank].is_empty();
            match ended {
                Some(message) if nothing_came && awaited.any(|(&source, _)| source == rank) => {
                    return Err(SyncError::RankLost { rank, message });
                }
                _ => {}
            }
        }
        Ok(news)
    }

    /// Tells the others, as far as they can be told.
    fn give_up(&self, error: &SyncError) {
        // The first reason, and not who has told it.
        let reason = match error {
            SyncError::GaveUp { reason, .. } => reason,
            error => error,
        };
        let mut message = Vec::new();
        write_error(reason, &mut message);
        for rank in self.others() {
            // Those that are lost need not know.
            let _ = self.link.send(self.members[rank], self.notices(), &message);
        }
        self.link.abandon();
    }
}

impl<L: Link> Collective for Exchange<L> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.members.len()
    }

    fn all_gather(&self, bytes: &[u8], deadline: Instant) -> Result<Vec<Vec<u8>>, SyncError> {
        let sources: Vec<usize> = self.others().collect();
        let mut all = self.call(bytes, self.others(), &sources, deadline)?;
        all.insert(self.rank, bytes.to_vec());
        Ok(all)
    }

    fn broadcast(
        &self,
        root: usize,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, SyncError> {
        if root >= self.size() {
            return Err(SyncError::Setting {
                field: "root",
                problem: format!("must be a rank below {}, got {root}", self.size()),
            });
        }
        if root == self.rank {
            self.call(bytes, self.others(), &[], deadline)?;
            return Ok(bytes.to_vec());
        }
        let received = self.call(&[], std::iter::empty(), &[root], deadline)?;
        Ok(received.into_iter().next().unwrap_or_default())
    }

    fn split(&self, color: u32, deadline: Instant) -> Result<Arc<dyn Collective>, SyncError> {
        // Each rank says its color, and the first context that it has not used.
        let next = self.next_context.load(Ordering::Relaxed);
        let own = [color.to_le_bytes(), next.to_le_bytes()].concat();
        let all = self.all_gather(&own, deadline)?;
        let mut wishes = Vec::new();
        for (rank, bytes) in all.iter().enumerate() {
            let Ok([c0, c1, c2, c3, n0, n1, n2, n3]) = <[u8; 8]>::try_from(&bytes[..]) else {
                return Err(SyncError::Malformed {
                    rank,
                    problem: "it is no split",
                });
            };
            let color = u32::from_le_bytes([c0, c1, c2, c3]);
            wishes.push((color, u32::from_le_bytes([n0, n1, n2, n3])));
        }
        // Groups of one split have no rank in common, so that one context serves all of them.
        let context = wishes.iter().map(|wish| wish.1).max().unwrap_or(0);
        if context > MAX_CONTEXT {
            return Err(SyncError::Setting {
                field: "split",
                problem: format!("a rank can be split no more than {MAX_CONTEXT} times"),
            });
        }
        self.next_context.fetch_max(context + 1, Ordering::Relaxed);
        let same: Vec<usize> = (0..self.size())
            .filter(|&rank| wishes[rank].0 == color)
            .collect();
        let rank = same.iter().position(|&rank| rank == self.rank).unwrap_or(0);
        Ok(Arc::new(Self::of(
            self.link.clone(),
            same.iter().map(|&rank| self.members[rank]).collect(),
            rank,
            context,
            self.next_context.clone(),
        )))
    }
}

/// The last context: MPI allows tags up to 32,767 everywhere, and a context has two.
const MAX_CONTEXT: u32 = 16_382;

/// How long to wait before the next look: not at all at first, and then longer and longer, so that ranks which share a
/// core leave it to those that work.
#[cfg(feature = "mpi")]
pub fn nap(round: u32, deadline: Instant) {
    use std::time::Duration;

    if round < 64 {
        std::thread::yield_now();
        return;
    }
    let longest = Duration::from_micros(1000);
    let nap = Duration::from_micros(u64::from(round - 63).saturating_mul(20)).min(longest);
    std::thread::sleep(nap.min(deadline.saturating_duration_since(Instant::now())));
}
