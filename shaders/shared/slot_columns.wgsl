// Each component of a Partial is a column of its own.

#import monoid

alias Slot = Partial;

fn lane_total(value: Partial) -> Partial {
    return value;
}

fn slot_of(value: Partial) -> Slot {
    return value;
}

fn value_of(slot: Slot) -> Partial {
    return slot;
}
