// Where partial results stand in scratch memory: chunk by chunk, and in a chunk column by column, each
// of them the vec4 fields of a Partial one after the other.

#import params
#import monoid

const PARTIAL_FLOATS = 4u * FIELDS;

// The first float of the partial of a chunk and a vector column.
fn partial_at(chunk: u32, column: u32) -> u32 {
    return params.partials + (chunk * params.partial_columns + column) * PARTIAL_FLOATS;
}
