// The components of a Partial are one channel's: they are combined first, and stand in all four afterwards.
// That is a quarter of the memory and of the traffic.

#import monoid

alias Slot = vec4<f32>;

fn lane_total(value: Partial) -> Partial {
    return fold(value);
}

fn slot_of(value: Partial) -> Slot {
    let fields = fields_of(value);
    return vec4(fields[0].x, fields[1].x, fields[2].x, fields[3].x);
}

fn value_of(slot: Slot) -> Partial {
    return partial_of(array(vec4(slot.x), vec4(slot.y), vec4(slot.z), vec4(slot.w)));
}
