// BatchNorm in training, with a clamp as its activation, of bfloat16 images on the CPU.
//
// Images are channels last: `pixels` rows of `channels` numbers, one after another. Two passes over
// memory forward (statistics; normalise) and two backward (sums; gradient of the images), which is
// what it takes: nothing can be normalised before the last pixel has been seen. All that is not of
// the size of images is in float32.
//
//     outputs = min(max(scale * image + shift, lowest), highest)
//     scale = weight / sqrt(variance + eps),   shift = bias - scale * mean
//
// ReLU6 is a clamp to 0 and 6, ReLU one to 0 and infinity, and no activation one to -infinity and
// infinity. Backward the clamp is computed again: that costs less than reading it from memory.
//
// The loops are written for the compiler to vectorise. Results do not depend on the number of
// threads: images are cut in the same blocks always, and what blocks sum is added up in their order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Index = std::int64_t;
using Bfloat16 = std::uint16_t;  // the upper half of a float32
using Numbers = std::vector<float>;

inline float widened(Bfloat16 value) {
  const std::uint32_t bits = std::uint32_t(value) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// To the nearest, and to the even one of two; what is not a number stays none.
inline Bfloat16 rounded(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return value != value ? Bfloat16(0x7fc0) : Bfloat16(nearest);
}

// Images as rows of whole pixels, long enough for vectors to pay whatever the number of channels,
// in blocks that threads share out.
struct Rows {
  static constexpr Index kLongEnough = 512, kInBlock = 128;

  const Index pixels, channels;
  const Index in_row = std::max<Index>(1, kLongEnough / channels);  // pixels
  const Index width = in_row * channels;                            // numbers
  const Index in_block = kInBlock * in_row;                         // pixels
  const Index blocks = (pixels + in_block - 1) / in_block;

  // Calls work(block) for each block, in parallel.
  template <class Work>
  void in_parallel(int threads, Work work) const {
#pragma omp parallel for schedule(static) num_threads(threads) if (blocks > 1)
    for (Index block = 0; block < blocks; ++block) work(block);
  }

  // Calls work(begin, count) for each row of a block: where its numbers begin, and how many.
  template <class Work>
  void in_order(Index block, Work work) const {
    const Index end = std::min(pixels, (block + 1) * in_block);
    for (Index pixel = block * in_block; pixel < end; pixel += in_row)
      work(pixel * channels, std::min(in_row, end - pixel) * channels);
  }

  // What stands for each channel, for each number of a row.
  Numbers repeated(const float* of_channels) const {
    Numbers row;
    row.reserve(width);
    for (Index pixel = 0; pixel < in_row; ++pixel)
      row.insert(row.end(), of_channels, of_channels + channels);
    return row;
  }
};

// Two sums over all pixels for each channel. add(begin, count, first, second) adds one row to a
// row of sums each; few rows make a block, so that float32 is enough within it.
template <class Add>
void two_sums(const Rows& rows, int threads, double* first, double* second, Add add) {
  const Index channels = rows.channels;
  Numbers sums(rows.blocks * 2 * channels);
  rows.in_parallel(threads, [&](Index block) {
    Numbers of_row(2 * rows.width);
    float* const a = of_row.data();
    float* const b = a + rows.width;
    rows.in_order(block, [&](Index begin, Index count) { add(begin, count, a, b); });
    float* const of_block = &sums[block * 2 * channels];
    for (Index pixel = 0; pixel < rows.in_row; ++pixel)
      for (Index channel = 0; channel < channels; ++channel) {
        of_block[channel] += a[pixel * channels + channel];
        of_block[channels + channel] += b[pixel * channels + channel];
      }
  });
  std::fill(first, first + channels, 0.0);
  std::fill(second, second + channels, 0.0);
  for (Index block = 0; block < rows.blocks; ++block)
    for (Index channel = 0; channel < channels; ++channel) {
      first[channel] += sums[block * 2 * channels + channel];
      second[channel] += sums[(block * 2 + 1) * channels + channel];
    }
}

// Rounding makes less than zero of a variance of zero. What is not a number stays none.
inline double positive(double variance) { return variance < 0 ? 0 : variance; }

// What forward and backward passes share: numbers for each channel, one kind after another.
struct Line {
  float *const mean, *const inverse /* of the standard deviation */, *const scale, *const shift;

  Line(float* numbers, Index channels)
      : mean(numbers),
        inverse(numbers + channels),
        scale(numbers + 2 * channels),
        shift(numbers + 3 * channels) {}
};

}  // namespace

extern "C" {

// Fills `line`, 4 times `channels` numbers for the other functions, and moves the running
// statistics by `momentum`. Null may be given for these, and for weight and bias: 1 and 0.
void statistics(const Bfloat16* images, Index pixels, Index channels, const float* weight,
                const float* bias, float* running_mean, float* running_variance, float momentum,
                float eps, float* line, int threads) {
  const Rows rows{pixels, channels};
  const Line of(line, channels);
  // Distances from the first pixel: the mean square of the numbers themselves would be nearly the
  // square of their mean where that is large, and the variance the error of the difference.
  Numbers origin(channels);
  for (Index channel = 0; channel < channels; ++channel) origin[channel] = widened(images[channel]);
  const Numbers origins = rows.repeated(origin.data());
  std::vector<double> sum(channels), square(channels);
  two_sums(rows, threads, sum.data(), square.data(),
           [images, from = origins.data()](Index begin, Index count, float* a, float* b) {
             const Bfloat16* const image = images + begin;
#pragma omp simd
             for (Index i = 0; i < count; ++i) {
               const float distance = widened(image[i]) - from[i];
               a[i] += distance;
               b[i] += distance * distance;
             }
           });
  for (Index channel = 0; channel < channels; ++channel) {
    const double distance = sum[channel] / pixels, mean = origin[channel] + distance;
    const double variance = square[channel] / pixels - distance * distance;
    const double inverse = 1 / std::sqrt(positive(variance) + eps);
    const double scale = (weight ? weight[channel] : 1.0) * inverse;
    of.mean[channel] = float(mean);
    of.inverse[channel] = float(inverse);
    of.scale[channel] = float(scale);
    of.shift[channel] = float((bias ? bias[channel] : 0.0) - scale * mean);
    if (running_mean) {
      const double unbiased = positive(variance) * pixels / (pixels - 1);
      running_mean[channel] += momentum * float(mean - running_mean[channel]);
      running_variance[channel] += momentum * float(unbiased - running_variance[channel]);
    }
  }
}

void normalise(const Bfloat16* images, Bfloat16* outputs, Index pixels, Index channels, float* line,
               float lowest, float highest, int threads) {
  const Rows rows{pixels, channels};
  const Line of(line, channels);
  const Numbers scales = rows.repeated(of.scale), shifts = rows.repeated(of.shift);
  rows.in_parallel(threads, [&, scale = scales.data(), shift = shifts.data()](Index block) {
    rows.in_order(block, [&](Index begin, Index count) {
      const Bfloat16* const image = images + begin;
      Bfloat16* const output = outputs + begin;
#pragma omp simd
      for (Index i = 0; i < count; ++i) {
        float value = scale[i] * widened(image[i]) + shift[i];
        value = value < lowest ? lowest : value;
        value = value > highest ? highest : value;
        output[i] = rounded(value);
      }
    });
  });
}

// Writes the gradients of weight and bias from those of the outputs, and, unless it is null, that
// of the images. With g the gradient before the clamp, over n pixels, of a channel:
//
//     of_bias = sum g,   of_weight = sum g (image - mean) / deviation
//     of_images = scale (g - of_bias / n - (image - mean) / deviation * of_weight / n)
void gradients(const Bfloat16* images, const Bfloat16* of_outputs, Bfloat16* of_images,
               Index pixels, Index channels, float* line, float lowest, float highest,
               float* of_weight, float* of_bias, int threads) {
  const Rows rows{pixels, channels};
  const Line of(line, channels);
  const Numbers scales = rows.repeated(of.scale), shifts = rows.repeated(of.shift);
  const float *const scale = scales.data(), *const shift = shifts.data();
  const auto before_clamp = [=](float image, Bfloat16 gradient, Index i) {
    const float value = scale[i] * image + shift[i];
    return (value <= lowest) | (value >= highest) ? 0.0f : widened(gradient);
  };

  const Numbers means = rows.repeated(of.mean);
  std::vector<double> sum(channels), product(channels);
  two_sums(rows, threads, sum.data(), product.data(),
           [=, mean = means.data()](Index begin, Index count, float* a, float* b) {
             const Bfloat16* const image = images + begin;
             const Bfloat16* const of_output = of_outputs + begin;
#pragma omp simd
             for (Index i = 0; i < count; ++i) {
               const float wide = widened(image[i]), g = before_clamp(wide, of_output[i], i);
               a[i] += g;
               b[i] += g * (wide - mean[i]);
             }
           });
  // of_images = scale g + slope image + rest
  Numbers slope(channels), rest(channels);
  for (Index channel = 0; channel < channels; ++channel) {
    const double inverse = of.inverse[channel], factor = of.scale[channel] / double(pixels);
    of_bias[channel] = float(sum[channel]);
    of_weight[channel] = float(product[channel] * inverse);
    slope[channel] = float(-factor * inverse * inverse * product[channel]);
    rest[channel] = float(-factor * sum[channel] - slope[channel] * double(of.mean[channel]));
  }
  if (!of_images) return;

  const Numbers slopes = rows.repeated(slope.data()), rests = rows.repeated(rest.data());
  rows.in_parallel(threads, [=, slope = slopes.data(), rest = rests.data()](Index block) {
    rows.in_order(block, [=](Index begin, Index count) {
      const Bfloat16* const image = images + begin;
      const Bfloat16* const of_output = of_outputs + begin;
      Bfloat16* const of_image = of_images + begin;
#pragma omp simd
      for (Index i = 0; i < count; ++i) {
        const float wide = widened(image[i]), g = before_clamp(wide, of_output[i], i);
        of_image[i] = rounded(scale[i] * g + (slope[i] * wide + rest[i]));
      }
    });
  });
}

}  // extern "C"
