// The coefficients of four channels by statistics that an earlier pass left.

#import backward_coefficients
#import known_statistics

fn known(channels: vec4<u32>) -> BackwardCoefficients {
    return backward_coefficients(channels, known_statistics(channels));
}
