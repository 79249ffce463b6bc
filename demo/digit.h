// A handwritten digit, read on a microcontroller: see digit.c.
//
// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the authors of "MNIST under 8,000 parameters"

#ifndef DIGIT_H
#define DIGIT_H

#include <stdint.h>

#define DIGIT_WORK 4304  // bytes of memory that digit() needs, beside 0.4 kB of stack

// The digit, 0 to 9, in 28×28 pixels. They lie row by row, and ink is high. The digit may have any
// place, size, slant and contrast. `work` holds nothing before and nothing of use after. The logits
// are in units of 1/65536: the higher, the likelier.
int digit(const uint8_t pixels[784], uint8_t work[DIGIT_WORK], int32_t logits[10]);

#endif
