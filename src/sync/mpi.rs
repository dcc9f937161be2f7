//! Ranks that are processes of an MPI job.
//!
//! Every return code is looked at, and no call blocks: messages are sent and received by `MPI_Isend`, `MPI_Improbe` and
//! `MPI_Imrecv`, and `MPI_Test` tells when they are done. So a rank that does not come is found out by the deadline. The
//! only calls that wait for other ranks are `MPI_Init_thread` and `MPI_Finalize`.

// MPI is a C library. This file is the only one that calls it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use mpi::ffi;
use mpi::traits::Communicator;

use super::collective::Collective;
use super::exchange::{Exchange, Link, nap};
use crate::error::SyncError;

/// The engine for processes that `mpirun` has started.
///
/// ```no_run
/// use wgpu_norm::sync::{Group, Mpi};
/// let group = Group::new(Mpi::world()?)?;
/// println!("rank {} of {}", group.rank(), group.size());
/// # Ok::<(), wgpu_norm::SyncError>(())
/// ```
///
/// It sends on a duplicate of the communicator, so that its messages never meet the application's. Calls come from any
/// thread, one at a time. If the application calls MPI from other threads meanwhile, it has to initialize MPI with
/// `MPI_THREAD_MULTIPLE`; with less than `MPI_THREAD_SERIALIZED`, only its main thread can use the engine.
///
/// If the engine has initialized MPI, it finalizes MPI when the last of its groups is dropped in the same thread, unless
/// there was a timeout or a lost rank: `MPI_Finalize` would wait for that. End the job then; `mpirun` ends the other ranks
/// when one of them ends without `MPI_Finalize`.
///
/// A message that is under way when its group fails keeps its memory until the process ends, for MPI may still read it
/// or write to it.
#[derive(Debug)]
pub struct Mpi(Exchange<MpiLink>);

impl Mpi {
    /// All processes of the job. Initializes MPI if nobody has. Every process calls it.
    ///
    /// # Errors
    /// [`SyncError::Engine`] if MPI has been finalized, allows no calls from this thread, or fails;
    /// [`SyncError::Timeout`] if the others do not come within two minutes.
    pub fn world() -> Result<Self, SyncError> {
        let library = Library::open()?;
        // SAFETY: the constant is set by the C library before `main`.
        let world = unsafe { ffi::RSMPI_COMM_WORLD };
        Self::of(library, world)
    }

    /// The processes of a communicator of the application's, which has initialized MPI and will finalize it after the
    /// last group is dropped. Every process of the communicator calls it.
    ///
    /// # Errors
    /// As [`world`](Self::world).
    pub fn from_communicator(communicator: &impl Communicator) -> Result<Self, SyncError> {
        let library = Library::open()?;
        Self::of(library, communicator.as_raw())
    }

    fn of(library: Arc<Library>, communicator: ffi::MPI_Comm) -> Result<Self, SyncError> {
        Ok(Self(Exchange::new(MpiLink::new(library, communicator)?)))
    }
}

impl Collective for Mpi {
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

fn unusable(message: impl Into<String>) -> SyncError {
    SyncError::Engine {
        engine: "MPI",
        message: message.into(),
    }
}

/// One call of MPI at a time, from whatever thread and group.
static CALLS: Mutex<()> = Mutex::new(());

fn calls() -> MutexGuard<'static, ()> {
    // It guards no value of ours.
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The C library, initialized.
#[derive(Debug)]
struct Library {
    /// The thread that has initialized MPI, if this crate has: it alone may finalize it.
    initialized_by: Option<ThreadId>,
    /// Whether a rank may be missing, for which `MPI_Finalize` would wait.
    abandoned: AtomicBool,
    /// Whether only MPI's main thread may call it.
    main_thread_only: bool,
}

impl Library {
    fn open() -> Result<Arc<Self>, SyncError> {
        // The last of all engines finalizes it, whoever made the first.
        static OPENED: Mutex<Weak<Library>> = Mutex::new(Weak::new());
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = opened.upgrade() {
            library.check().map_err(unusable)?;
            return Ok(library);
        }
        let _turn = calls();
        let (mut initialized, mut finalized) = (0, 0);
        // SAFETY: both may be called at any time, and write one integer.
        check(unsafe { ffi::MPI_Initialized(&mut initialized) }).map_err(unusable)?;
        // SAFETY: as above.
        check(unsafe { ffi::MPI_Finalized(&mut finalized) }).map_err(unusable)?;
        if finalized != 0 {
            return Err(unusable(
                "has been finalized, after which a process cannot use it again; keep one group for the whole run",
            ));
        }
        let mut provided = 0;
        if initialized == 0 {
            let wanted = ffi::MPI_THREAD_SERIALIZED as c_int;
            // SAFETY: MPI is not initialized, and takes null for the arguments of `main`.
            let code = unsafe {
                ffi::MPI_Init_thread(ptr::null_mut(), ptr::null_mut(), wanted, &mut provided)
            };
            check(code).map_err(unusable)?;
        } else {
            // SAFETY: MPI is initialized, and writes one integer.
            check(unsafe { ffi::MPI_Query_thread(&mut provided) }).map_err(unusable)?;
        }
        let library = Self {
            initialized_by: (initialized == 0).then(|| thread::current().id()),
            abandoned: AtomicBool::new(false),
            main_thread_only: provided < ffi::MPI_THREAD_SERIALIZED as c_int,
        };
        library.check_thread().map_err(unusable)?;
        let library = Arc::new(library);
        *opened = Arc::downgrade(&library);
        Ok(library)
    }

    /// Can this thread call MPI, now?
    fn check(&self) -> Result<(), String> {
        let _turn = calls();
        let mut finalized = 0;
        // SAFETY: it may be called at any time, and writes one integer.
        check(unsafe { ffi::MPI_Finalized(&mut finalized) })?;
        match finalized {
            0 => self.check_thread(),
            _ => Err("MPI has been finalized".to_owned()),
        }
    }

    /// May this thread call MPI? The caller has the turn to call it.
    fn check_thread(&self) -> Result<(), String> {
        if !self.main_thread_only {
            return Ok(());
        }
        let mut main = 0;
        // SAFETY: MPI is initialized, and writes one integer.
        check(unsafe { ffi::MPI_Is_thread_main(&mut main) })?;
        match main {
            0 => Err(
                "allows calls from its main thread only; initialize it with MPI_THREAD_SERIALIZED"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let own = self.initialized_by == Some(thread::current().id());
        // The others may wait for a rank that panics: to finalize would be to wait for them.
        let abandoned = self.abandoned.load(Ordering::Relaxed) || thread::panicking();
        if own && !abandoned {
            let _turn = calls();
            let mut finalized = 0;
            // SAFETY: it may be called at any time, and writes one integer.
            let code = unsafe { ffi::MPI_Finalized(&mut finalized) };
            if code == ffi::MPI_SUCCESS as c_int && finalized == 0 {
                // SAFETY: this thread has initialized MPI, and no message of this crate is under way.
                unsafe { ffi::MPI_Finalize() };
            }
        }
    }
}

/// A communicator's handle, which MPI lets every thread use.
#[derive(Clone, Copy, Debug)]
struct Handle(ffi::MPI_Comm);

// SAFETY: a handle is a name for an object inside MPI. Calls with it are made one at a time, under `CALLS`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// A message that MPI reads or writes until its request is done.
#[derive(Debug)]
struct UnderWay {
    request: ffi::MPI_Request,
    bytes: Vec<u8>,
}

// SAFETY: a request is a name for an object inside MPI, as a communicator's handle is.
unsafe impl Send for UnderWay {}

impl UnderWay {
    /// Whether MPI has done with the bytes.
    fn done(&mut self) -> Result<bool, String> {
        let mut flag = 0;
        // SAFETY: the request is one that MPI has returned. It writes one integer and no status.
        check(unsafe { ffi::MPI_Test(&mut self.request, &mut flag, ffi::RSMPI_STATUS_IGNORE) })?;
        Ok(flag != 0)
    }
}

#[derive(Debug, Default)]
struct Messages {
    /// With target and channel.
    sending: Vec<((usize, u32), UnderWay)>,
    /// By source and channel.
    receiving: HashMap<(usize, u32), UnderWay>,
}

#[derive(Debug)]
struct MpiLink {
    communicator: Handle,
    rank: usize,
    size: usize,
    messages: Mutex<Messages>,
    library: Arc<Library>,
}

/// The longest wait for the other ranks to duplicate the communicator.
const LONGEST_START: Duration = Duration::from_secs(120);

impl MpiLink {
    fn new(library: Arc<Library>, communicator: ffi::MPI_Comm) -> Result<Self, SyncError> {
        let start = Instant::now();
        let deadline = start + LONGEST_START;
        let (mut rank, mut size) = (0, 0);
        // A request, and where MPI writes the duplicate, that stay if the others do not come.
        let own: &'static mut MaybeUninit<ffi::MPI_Comm> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let mut duplicating = {
            let _turn = calls();
            let mut request = MaybeUninit::uninit();
            // SAFETY: MPI is initialized and the communicator is one of its. `own` lives as long as the process.
            let code =
                unsafe { ffi::MPI_Comm_idup(communicator, own.as_mut_ptr(), request.as_mut_ptr()) };
            check(code).map_err(unusable)?;
            UnderWay {
                // SAFETY: a call that succeeds writes the request.
                request: unsafe { request.assume_init() },
                bytes: Vec::new(),
            }
        };
        let mut done = || {
            let _turn = calls();
            duplicating.done().map_err(unusable)
        };
        let mut round = 0;
        while !done()? {
            if Instant::now() >= deadline {
                library.abandoned.store(true, Ordering::Relaxed);
                return Err(unusable(format!(
                    "not all processes came within {} s to share a communicator",
                    LONGEST_START.as_secs()
                )));
            }
            nap(round, deadline);
            round += 1;
        }
        // SAFETY: the request is done, so that MPI has written the duplicate.
        let own = unsafe { own.assume_init() };
        let _turn = calls();
        // SAFETY: the duplicate is a communicator, and each call writes at most one integer.
        let codes = unsafe {
            [
                ffi::MPI_Comm_set_errhandler(own, ffi::RSMPI_ERRORS_RETURN),
                ffi::MPI_Comm_rank(own, &mut rank),
                ffi::MPI_Comm_size(own, &mut size),
            ]
        };
        for code in codes {
            check(code).map_err(unusable)?;
        }
        Ok(Self {
            communicator: Handle(own),
            rank: number(rank).map_err(unusable)?,
            size: number(size).map_err(unusable)?,
            messages: Mutex::default(),
            library,
        })
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        // They are consistent between any two statements, also for a thread that panicked.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to receive the next message, if one is there. The caller has the turn to call MPI.
    fn arriving(&self, source: c_int, tag: c_int) -> Result<Option<UnderWay>, String> {
        let mut arrived = 0;
        let mut message = MaybeUninit::uninit();
        let mut status = MaybeUninit::uninit();
        // SAFETY: the communicator is one of MPI's, which writes an integer and, if a message has arrived, its name and its
        // status.
        let code = unsafe {
            ffi::MPI_Improbe(
                source,
                tag,
                self.communicator.0,
                &mut arrived,
                message.as_mut_ptr(),
                status.as_mut_ptr(),
            )
        };
        check(code)?;
        if arrived == 0 {
            return Ok(None);
        }
        let mut count = 0;
        // SAFETY: a message has arrived, so that MPI has written its status.
        check(unsafe { ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &mut count) })?;
        let mut bytes = vec![0; number(count)?];
        let mut request = MaybeUninit::uninit();
        // SAFETY: the message is the one that has arrived, of `count` bytes. They stay where they are, in `receiving`, until
        // the request is done, or for ever.
        let code = unsafe {
            ffi::MPI_Imrecv(
                bytes.as_mut_ptr().cast(),
                count,
                ffi::RSMPI_UINT8_T,
                message.as_mut_ptr(),
                request.as_mut_ptr(),
            )
        };
        if let Err(error) = check(code) {
            // What MPI does with the memory then is not said.
            std::mem::forget(bytes);
            return Err(error);
        }
        Ok(Some(UnderWay {
            // SAFETY: a call that succeeds writes the request.
            request: unsafe { request.assume_init() },
            bytes,
        }))
    }
}

impl Link for MpiLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&self, to: usize, channel: u32, bytes: &[u8]) -> Result<(), String> {
        self.library.check()?;
        let count = c_int::try_from(bytes.len())
            .map_err(|_| format!("a message of {} bytes is too long for MPI", bytes.len()))?;
        let (target, tag) = (integer(to)?, channel as c_int);
        let bytes = bytes.to_vec();
        let mut messages = self.messages();
        let _turn = calls();
        let mut request = MaybeUninit::uninit();
        // SAFETY: the bytes stay where they are, in `sending`, until the request is done, or for ever. The communicator
        // is one of MPI's.
        let code = unsafe {
            ffi::MPI_Isend(
                bytes.as_ptr().cast(),
                count,
                ffi::RSMPI_UINT8_T,
                target,
                tag,
                self.communicator.0,
                request.as_mut_ptr(),
            )
        };
        if let Err(error) = check(code) {
            // What MPI does with the memory then is not said.
            std::mem::forget(bytes);
            return Err(error);
        }
        let message = UnderWay {
            // SAFETY: a call that succeeds writes the request.
            request: unsafe { request.assume_init() },
            bytes,
        };
        messages.sending.push(((to, channel), message));
        Ok(())
    }

    fn receive(&self, from: usize, channel: u32) -> Result<Option<Vec<u8>>, String> {
        self.library.check()?;
        let mut messages = self.messages();
        let _turn = calls();
        let key = (from, channel);
        let mut message = match messages.receiving.remove(&key) {
            Some(message) => message,
            None => match self.arriving(integer(from)?, channel as c_int)? {
                Some(message) => message,
                None => return Ok(None),
            },
        };
        let done = message.done();
        if let Ok(true) = done {
            return Ok(Some(message.bytes));
        }
        // MPI still writes to it.
        messages.receiving.insert(key, message);
        done.map(|_| None)
    }

    fn unsent(&self, channel: u32) -> Result<Vec<usize>, String> {
        let mut messages = self.messages();
        if messages.sending.is_empty() {
            return Ok(Vec::new());
        }
        self.library.check()?;
        let _turn = calls();
        let mut at = 0;
        while let Some((_, message)) = messages.sending.get_mut(at) {
            match message.done()? {
                true => drop(messages.sending.swap_remove(at)),
                false => at += 1,
            }
        }
        let of_channel = messages.sending.iter().filter(|(key, _)| key.1 == channel);
        Ok(of_channel.map(|(key, _)| key.0).collect())
    }

    fn pause(&self, round: u32, deadline: Instant) {
        nap(round, deadline);
    }

    fn abandon(&self) {
        self.library.abandoned.store(true, Ordering::Relaxed);
    }
}

impl Drop for MpiLink {
    fn drop(&mut self) {
        // Asks after all of them.
        let _ = self.unsent(0);
        let mut messages = self.messages();
        let sending = std::mem::take(&mut messages.sending);
        let receiving = std::mem::take(&mut messages.receiving);
        if !(sending.is_empty() && receiving.is_empty()) {
            self.library.abandoned.store(true, Ordering::Relaxed);
        }
        // MPI still reads the first and writes to the second.
        std::mem::forget(sending);
        std::mem::forget(receiving);
    }
}

/// The message of a code that is no success.
fn check(code: c_int) -> Result<(), String> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0 as c_char; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut length = 0;
    // SAFETY: the text has as many characters as MPI may write.
    let known = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &mut length) };
    if known != ffi::MPI_SUCCESS as c_int {
        return Err(format!("error {code}"));
    }
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let bytes: Vec<u8> = text[..length].iter().map(|&c| c as u8).collect();
    Err(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(value: c_int) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("MPI gave {value} where a number of things belongs"))
}

fn integer(value: usize) -> Result<c_int, String> {
    c_int::try_from(value).map_err(|_| format!("{value} is too large for MPI"))
}
