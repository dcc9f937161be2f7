// Invocations in a workgroup: a power of two.
override WORKGROUP: u32 = 64;
