// Vectors that a lane keeps in registers.

const HELD = 16u;
