//! Ranks that are threads of one process, with a device each or a common one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::collective::Collective;
use super::exchange::{Exchange, Link};
use crate::error::SyncError;

/// The engine for threads of one process: several devices in one machine, and tests.
///
/// ```
/// use std::time::{Duration, Instant};
/// use wgpu_norm::sync::{Collective, Threads};
///
/// let deadline = Instant::now() + Duration::from_secs(10);
/// std::thread::scope(|scope| {
///     for rank in Threads::ranks(3) {
///         scope.spawn(move || {
///             let all = rank.all_gather(&[rank.rank() as u8], deadline)?;
///             assert_eq!(all, [[0], [1], [2]]);
///             Ok::<(), wgpu_norm::SyncError>(())
///         });
///     }
/// });
/// ```
#[derive(Debug)]
pub struct Threads(Exchange<ThreadLink>);

impl Threads {
    /// `size` ranks, one for each thread. A rank that is dropped, with all groups that it was
    /// split into, is lost for the others.
    pub fn ranks(size: usize) -> Vec<Self> {
        let post = Arc::new(Post {
            boxes: Mutex::new(Boxes {
                messages: HashMap::new(),
                alive: vec![true; size],
            }),
            arrived: Condvar::new(),
        });
        (0..size)
            .map(|rank| {
                let post = post.clone();
                Self(Exchange::new(ThreadLink { post, rank, size }))
            })
            .collect()
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn all_gather(&self, bytes: &[u8], deadline: Instant) -> Result<Vec<Vec<u8>>, SyncError> {
        self.0.all_gather(bytes, deadline)
    }

    fn broadcast(
        &self,
        root: usize,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, SyncError> {
        self.0.broadcast(root, bytes, deadline)
    }

    fn split(&self, color: u32, deadline: Instant) -> Result<Arc<dyn Collective>, SyncError> {
        self.0.split(color, deadline)
    }
}

/// What the ranks share.
#[derive(Debug)]
struct Post {
    boxes: Mutex<Boxes>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Boxes {
    /// By source, target and channel.
    messages: HashMap<(usize, usize, u32), VecDeque<Vec<u8>>>,
    alive: Vec<bool>,
}

impl Post {
    fn boxes(&self) -> MutexGuard<'_, Boxes> {
        // They are consistent between any two statements, also for a thread that panicked.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct ThreadLink {
    post: Arc<Post>,
    rank: usize,
    size: usize,
}

impl Link for ThreadLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&self, to: usize, channel: u32, bytes: &[u8]) -> Result<(), String> {
        let mut boxes = self.post.boxes();
        let key = (self.rank, to, channel);
        boxes
            .messages
            .entry(key)
            .or_default()
            .push_back(bytes.to_vec());
        self.post.arrived.notify_all();
        Ok(())
    }

    fn receive(&self, from: usize, channel: u32) -> Result<Option<Vec<u8>>, String> {
        let mut boxes = self.post.boxes();
        let messages = boxes.messages.get_mut(&(from, self.rank, channel));
        match messages.and_then(VecDeque::pop_front) {
            Some(message) => Ok(Some(message)),
            None if boxes.alive[from] => Ok(None),
            None => Err("its thread has ended".to_owned()),
        }
    }

    fn unsent(&self, _: u32) -> Result<Vec<usize>, String> {
        Ok(Vec::new())
    }

    fn pause(&self, _: u32, deadline: Instant) {
        // Something may have arrived since the last look, so no pause is long.
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = left.min(Duration::from_micros(500));
        let boxes = self.post.boxes();
        drop(self.post.arrived.wait_timeout(boxes, pause));
    }
}

impl Drop for ThreadLink {
    fn drop(&mut self) {
        self.post.boxes().alive[self.rank] = false;
        self.post.arrived.notify_all();
    }
}
