//! Plans on a device: compiled once, bound to the caller's buffers, recorded into the caller's encoder.

use std::fmt;
use std::marker::PhantomData;

use super::field::{AFFINE, GRADS, MOMENTS, PARTS, RUNNING, SAVED, SCRATCH, SUMS, X};
use crate::error::{BindError, PlanError};
use crate::gpu::compiled::Compiled;
use crate::gpu::program::{Field, Program, Uniform};
use crate::gpu::step::Slices;
use crate::gpu::{Form, Kernels, Launch, Step};

/// A kind of plan: its name, and the buffers that it binds.
pub trait Kind {
    /// The label of its compute pass.
    const LABEL: &'static str;
    /// The caller's memory.
    type Buffers<'a>;
    /// The buffers by field.
    fn slices<'a, 'b>(buffers: &'b Self::Buffers<'a>) -> Box<Slices<'a>>
    where
        'a: 'b;
}

/// A plan of one kind: dispatches with compiled kernels and uniforms, ready to be bound to buffers.
pub struct Plan<K> {
    compiled: Compiled,
    kind: PhantomData<fn(K)>,
}

impl<K: Kind> fmt::Debug for Plan<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({}: {:?})", K::LABEL, self.compiled)
    }
}

impl<K> Plan<K> {
    pub(crate) fn compile<U: Uniform>(
        kernels: &Kernels,
        program: Program<U>,
    ) -> Result<Self, PlanError> {
        Ok(Self {
            compiled: Compiled::new(kernels, &program)?,
            kind: PhantomData,
        })
    }

    fn bytes(&self, field: Field) -> u64 {
        self.compiled.bytes(field)
    }

    /// The plan's dispatches as data, in order: for reading, or to launch them otherwise.
    pub fn launches(&self, form: Form) -> Vec<Launch> {
        self.compiled.launches(form)
    }

    /// Bytes of `x`, and of each other tensor of its shape.
    pub fn activation_bytes(&self) -> u64 {
        self.bytes(X)
    }

    /// Bytes of `affine`; 0 if it is to be left out.
    pub fn affine_bytes(&self) -> u64 {
        self.bytes(AFFINE)
    }

    /// Bytes of `grads`; 0 if it is to be left out.
    pub fn grads_bytes(&self) -> u64 {
        self.bytes(GRADS)
    }

    /// Bytes of `running`; 0 if it is to be left out.
    pub fn running_bytes(&self) -> u64 {
        self.bytes(RUNNING)
    }

    /// Bytes of `saved`; 0 if it may be left out.
    pub fn saved_bytes(&self) -> u64 {
        self.bytes(SAVED)
    }

    /// Bytes of `moments`; 0 if the plan has none.
    pub fn moments_bytes(&self) -> u64 {
        self.bytes(MOMENTS)
    }

    /// Bytes of `parts`; 0 if the plan has none.
    pub fn parts_bytes(&self) -> u64 {
        self.bytes(PARTS)
    }

    /// Bytes of `sums`; 0 if the plan has none.
    pub fn sums_bytes(&self) -> u64 {
        self.bytes(SUMS)
    }

    /// Bytes of `scratch`; 0 if it may be left out.
    pub fn scratch_bytes(&self) -> u64 {
        self.bytes(SCRATCH)
    }
}

impl<K: Kind> Plan<K> {
    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &K::Buffers<'_>) -> Result<Step, BindError> {
        self.compiled.bind(K::LABEL, &K::slices(buffers))
    }
}

/// Declares a kind of plan with its buffers: those that every plan of the kind needs, then those that some need.
macro_rules! buffers {
    (
        $(#[$doc:meta])*
        $buffers:ident of $kind:ident, $label:literal;
        $($(#[$needed_doc:meta])* $needed:ident: $needed_field:ident,)+
        ;
        $($(#[$optional_doc:meta])* $optional:ident: $optional_field:ident,)*
    ) => {
        $(#[$doc])*
        ///
        /// Each slice of a storage buffer is at least as long as the plan says, and begins at a multiple of
        /// `min_storage_buffer_offset_alignment`.
        #[derive(Clone, Copy, Debug)]
        #[non_exhaustive]
        pub struct $buffers<'a> {
            $($(#[$needed_doc])* pub $needed: wgpu::BufferSlice<'a>,)+
            $($(#[$optional_doc])* pub $optional: Option<wgpu::BufferSlice<'a>>,)*
        }

        impl<'a> $buffers<'a> {
            /// The buffers that every plan of the kind needs, and no others.
            pub fn new($($needed: wgpu::BufferSlice<'a>),+) -> Self {
                Self { $($needed,)+ $($optional: None,)* }
            }

            $(
                #[doc = concat!("Sets [`", stringify!($optional), "`](Self::", stringify!($optional), ").")]
                pub fn $optional(mut self, $optional: impl Into<Option<wgpu::BufferSlice<'a>>>) -> Self {
                    self.$optional = $optional.into();
                    self
                }
            )*
        }

        #[doc = concat!("The kind of plan that binds [`", stringify!($buffers), "`].")]
        #[derive(Debug)]
        pub enum $kind {}

        impl $crate::norm::plan::Kind for $kind {
            const LABEL: &'static str = $label;
            type Buffers<'a> = $buffers<'a>;

            fn slices<'a, 'b>(buffers: &'b $buffers<'a>) -> Box<$crate::gpu::step::Slices<'a>>
            where
                'a: 'b,
            {
                Box::new([
                    $(($crate::norm::field::$needed_field, Some(buffers.$needed)),)+
                    $(($crate::norm::field::$optional_field, buffers.$optional),)*
                ])
            }
        }
    };
}
pub(crate) use buffers;

/// Writes the constructors of a kind of plan: from kernels, a problem, a configuration and options to a program.
macro_rules! constructors {
    ($plan:ident: $config:ty, $options:ident, $program:path) => {
        impl $plan {
            /// Plans and compiles for one problem.
            ///
            /// # Errors
            /// [`PlanError`](crate::PlanError), naming the field at fault.
            pub fn new(
                kernels: &$crate::gpu::Kernels,
                problem: impl Into<$crate::dtype::Problem>,
                config: &$config,
            ) -> Result<Self, $crate::error::PlanError> {
                Self::with_options(kernels, problem, config, $options::default())
            }

            /// As [`new`](Self::new), with options.
            ///
            /// # Errors
            /// As [`new`](Self::new), and for options that cannot be:
            /// [`PlanError::Unsupported`](crate::PlanError::Unsupported),
            /// [`PlanError::NoRunningStatistics`](crate::PlanError::NoRunningStatistics),
            /// [`PlanError::Strategy`](crate::PlanError::Strategy) or [`PlanError::Tile`](crate::PlanError::Tile).
            pub fn with_options(
                kernels: &$crate::gpu::Kernels,
                problem: impl Into<$crate::dtype::Problem>,
                config: &$config,
                options: $options,
            ) -> Result<Self, $crate::error::PlanError> {
                let problem = problem.into();
                let caps = $crate::norm::f16::caps_for(kernels, problem.dtype);
                let program = $program(&caps, problem, config, options)?;
                Self::compile(kernels, program)
            }

            /// The dispatches as data, for a device that is not at hand.
            ///
            /// # Errors
            /// As [`with_options`](Self::with_options).
            pub fn describe(
                caps: &$crate::gpu::Caps,
                problem: impl Into<$crate::dtype::Problem>,
                config: &$config,
                options: $options,
                form: $crate::gpu::Form,
            ) -> Result<Vec<$crate::gpu::Launch>, $crate::error::PlanError> {
                $program(caps, problem.into(), config, options)?.describe(caps, form)
            }
        }
    };
}
pub(crate) use constructors;
