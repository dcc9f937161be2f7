// Where partial results stand in scratch memory: chunk by chunk, an entry for each component that has one.

#import params
#import monoid

// The entry of a chunk and a component.
fn entry_at(chunk: u32, component: u32) -> u32 {
    return params.partials + chunk * params.partial_components + component;
}
