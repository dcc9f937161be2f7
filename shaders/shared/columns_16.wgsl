// Columns of vectors that a lane keeps side by side.

const COLUMNS = 16u;
