// A handwritten digit, read on a microcontroller. C99, integers alone, no heap, and no library but
// the compiler's own arithmetic for CPUs that cannot divide.
//
// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the authors of "MNIST under 8,000 parameters"
//
// First the digit is set upright, as utils.upright() does it. Then the net runs, with weights and
// activations of 8 bits. BatchNorm is folded into the weights. A map of height × width × channels
// lies in memory with its channels last: the channels of a pixel are neighbours.
//
// A right shift of a negative number is taken to round down, as all usual compilers have it.

#include "digit.h"

// A separable layer: a depthwise 3×3 convolution and a 1×1 convolution behind it.
struct layer {
    uint8_t side, inputs, outputs;  // side × side × inputs → (side - 2) × (side - 2) × outputs
    uint16_t from, to;              // where its input and its output begin in `work`
    const int8_t *depthwise;        // 3 × 3 × inputs
    const int8_t *pointwise;        // outputs × inputs
    const int32_t *bias;            // outputs; half a unit is in it, so that the shift rounds
    const uint8_t *shift;           // outputs: the scale is 1 / 2^shift
};

#include "digit_weights.h"

#if NET_WORK > DIGIT_WORK
#error "digit_weights.h is of a net that needs more memory: raise DIGIT_WORK in digit.h"
#endif

// ---- preparation: as utils.upright() ------------------------------------------------------------

#define ONE 65536  // of fixed-point numbers: they count in units of 1/65536

static int32_t clamp(int32_t value, int32_t least, int32_t most)
{
    if (value < least) {
        return least;
    }
    return value > most ? most : value;
}

// The whole part of the square root. From the highest bit on, each stays if the square is not too
// large.
static uint32_t square_root(uint32_t n)
{
    uint32_t root = 0;
    for (uint32_t bit = 1u << 15; bit > 0; bit >>= 1) {
        if ((root + bit) * (root + bit) <= n) {
            root += bit;
        }
    }
    return root;
}

// The covariance of x and y, fixed-point, from sums of ink, ink × x × y, ink × x and ink × y. The
// largest is that of x and x of a full image: 8.4e18, just below 2^63.
static int32_t covariance(int64_t ink, int64_t xy, int64_t x, int64_t y)
{
    return (int32_t)((ink * xy - x * y) * ONE / (ink * ink));
}

// A pixel; 0 outside of the image.
static uint32_t pixel_at(const uint8_t *pixels, int32_t row, int32_t column)
{
    if (row < 0 || row >= 28 || column < 0 || column >= 28) {
        return 0;
    }
    return pixels[row * 28 + column];
}

// 28×28 raw pixels → the same digit in one slant, place, size and contrast.
static void upright(const uint8_t pixels[784], uint8_t image[784])
{
    int32_t brightest = 1;
    for (int i = 0; i < 784; i++) {
        if (pixels[i] > brightest) {
            brightest = pixels[i];
        }
    }

    // Ink is what is brighter than 0.3 of the brightest pixel. Its unit does not matter below, so
    // it is counted in tenths.
    int32_t total = 0, sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0, sum_yy = 0;
    for (int y = 0; y < 28; y++) {
        for (int x = 0; x < 28; x++) {
            int32_t ink = 10 * pixels[y * 28 + x] - 3 * brightest;
            if (ink > 0) {
                total += ink;
                sum_x += ink * x;
                sum_y += ink * y;
                sum_xx += ink * x * x;
                sum_xy += ink * x * y;
                sum_yy += ink * y * y;
            }
        }
    }
    if (total == 0) {  // an empty image
        total = 1;
    }
    int32_t centre_x = (int32_t)((int64_t)sum_x * ONE / total);
    int32_t centre_y = (int32_t)((int64_t)sum_y * ONE / total);
    int32_t variance_x = covariance(total, sum_xx, sum_x, sum_x);
    int32_t variance_y = covariance(total, sum_yy, sum_y, sum_y);
    int32_t covariance_xy = covariance(total, sum_xy, sum_x, sum_y);

    // Upright is where x and y do not vary together. A shear by this slope leads there. The least
    // variance is 0.0196 square pixels: 1e-4 in utils.py, which counts in 14 pixels.
    int32_t divisor = clamp(variance_y, 1285, INT32_MAX);
    int32_t slope = (int32_t)((int64_t)covariance_xy * ONE / divisor);

    // The ink's root mean square distance from its centre becomes 6.44 pixels, by a zoom of 0.7 to
    // 1.4. So its square counts from (0.7 × 6.44)² to (1.4 × 6.44)².
    int32_t square = variance_x + variance_y - (int32_t)((int64_t)slope * covariance_xy / ONE);
    square = clamp(square, 1331827, 5327307);
    int32_t distance = (int32_t)square_root((uint32_t)square << 8);  // in 1/4096 pixels
    int32_t zoom = distance * 400 / 161;                             // × 16 / 6.44: fixed-point
    int32_t shear = (int32_t)((int64_t)slope * zoom / ONE);

    // Each pixel of the result is a mixture of the four between which its place in the raw image
    // lies. The middle of the image is 13.5, so distances from it are counted in halves.
    uint32_t gain = (255 * 4096 + brightest / 2) / brightest;  // contrast, in units of 1/4096
    for (int y = 0; y < 28; y++) {
        for (int x = 0; x < 28; x++) {
            int32_t column = centre_x + (zoom * (2 * x - 27) + shear * (2 * y - 27)) / 2;
            int32_t row = centre_y + zoom * (2 * y - 27) / 2;
            int32_t left = column >> 16;
            int32_t top = row >> 16;
            uint32_t to_right = (column & 0xffff) >> 4;  // the right pixels' share, in 1/4096
            uint32_t to_bottom = (row & 0xffff) >> 4;
            uint32_t upper = pixel_at(pixels, top, left) * (4096 - to_right)
                           + pixel_at(pixels, top, left + 1) * to_right;
            uint32_t lower = pixel_at(pixels, top + 1, left) * (4096 - to_right)
                           + pixel_at(pixels, top + 1, left + 1) * to_right;
            uint32_t mixture = upper * (4096 - to_bottom) + lower * to_bottom;  // below 2^32
            image[y * 28 + x] = ((mixture >> 12) * gain + (1u << 23)) >> 24;    // rounded
        }
    }
}

// ---- the net ------------------------------------------------------------------------------------

// ReLU, and what is too large for 8 bits becomes 255.
static uint8_t activation(int32_t value)
{
    return (uint8_t)clamp(value, 0, 255);
}

// 3×3 convolution, 2×2 max pool, ReLU: 28×28 → 13×13×CONV_OUTPUTS. A pixel after the pool is
// computed at a time. The pool comes before bias and scale, which change no order.
static void conv_pool(const uint8_t *image, uint8_t *output)
{
    for (int y = 0; y < 13; y++) {
        for (int x = 0; x < 13; x++) {
            for (int k = 0; k < CONV_OUTPUTS; k++) {
                int32_t most = INT32_MIN;
                for (int place = 0; place < 4; place++) {
                    const uint8_t *window = image + (2 * y + place / 2) * 28 + 2 * x + place % 2;
                    int32_t sum = 0;
                    for (int dy = 0; dy < 3; dy++) {
                        for (int dx = 0; dx < 3; dx++) {
                            sum += conv_weight[9 * k + 3 * dy + dx] * window[28 * dy + dx];
                        }
                    }
                    if (sum > most) {
                        most = sum;
                    }
                }
                *output++ = activation((most + conv_bias[k]) >> conv_shift[k]);
            }
        }
    }
}

// Depthwise convolution of one window: 3×3×inputs → inputs. The sums keep all their bits.
static void depthwise(const struct layer *layer, const uint8_t *window, int32_t *sums)
{
    const int channels = layer->inputs;
    for (int c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (int dy = 0; dy < 3; dy++) {
            for (int dx = 0; dx < 3; dx++) {
                sum += layer->depthwise[(3 * dy + dx) * channels + c]
                     * window[(layer->side * dy + dx) * channels + c];
            }
        }
        sums[c] = sum;
    }
}

// 1×1 convolution: output k of one pixel. export.py sees to it that the sum stays below 2^31.
static int32_t pointwise(const struct layer *layer, int k, const int32_t *inputs)
{
    const int8_t *weight = layer->pointwise + k * layer->inputs;
    int32_t sum = layer->bias[k];
    for (int c = 0; c < layer->inputs; c++) {
        sum += weight[c] * inputs[c];
    }
    return sum >> layer->shift[k];
}

// A separable layer, pixel by pixel. Its output may lie where its input lies, or a little before: a
// pixel is written when no later window needs that place. export.py chooses the places.
static void separable(const struct layer *layer, uint8_t *work)
{
    int32_t sums[MOST_CHANNELS];
    uint8_t *output = work + layer->to;
    for (int y = 0; y < layer->side - 2; y++) {
        for (int x = 0; x < layer->side - 2; x++) {
            depthwise(layer, work + layer->from + (y * layer->side + x) * layer->inputs, sums);
            for (int k = 0; k < layer->outputs; k++) {
                *output++ = activation(pointwise(layer, k, sums));
            }
        }
    }
}

int digit(const uint8_t pixels[784], uint8_t work[DIGIT_WORK], int32_t logits[10])
{
    upright(pixels, work);
    conv_pool(work, work + layers[0].from);
    for (int i = 0; i < LAYERS; i++) {
        separable(&layers[i], work);
    }

    // The last layer is a separable one, too: a learnt 3×3 average of each channel, and a linear
    // layer. It has one pixel, no ReLU and all bits.
    int32_t sums[MOST_CHANNELS];
    depthwise(&last, work + last.from, sums);
    int best = 0;
    for (int k = 0; k < 10; k++) {
        logits[k] = pointwise(&last, k, sums);
        if (logits[k] > logits[best]) {
            best = k;
        }
    }
    return best;
}
