// The components of a Partial are one channel's: they are combined first, and stand in all four afterwards.
// That is a quarter of the memory and of the traffic.

#import monoid

alias Slot = Entry;

fn lane_total(value: Partial) -> Partial {
    return fold(value);
}

fn slot_of(value: Partial) -> Slot {
    return entries_of(value)[0];
}

fn value_of(slot: Slot) -> Partial {
    return partial_of(array<Entry, 4>(slot, slot, slot, slot));
}
