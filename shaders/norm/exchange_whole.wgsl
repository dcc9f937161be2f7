// Each component of a partial result has its own statistics.

#import monoid

alias Exchanged = Partial;

fn lane_total(value: Partial) -> Partial {
    return value;
}

fn exchanged_of(value: Partial) -> Exchanged {
    return value;
}

fn value_of(exchanged: Exchanged) -> Partial {
    return exchanged;
}
