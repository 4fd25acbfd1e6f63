// A convolution of oneDNN, or a derivative of it, for a range of rows of some images. The thread that
// calls it computes it. For onednn.cc.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <tuple>
#include <unordered_map>

#include "oneapi/dnnl/dnnl.hpp"

// of OpenMP, with which the library is linked
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int threads);

namespace {

using dnnl::memory;
using Dims = memory::dims;

// What is computed of x [batch, height, width, inputs], y [batch, rows, columns, outputs] and the
// kernel: y, x, or the kernel. The numbers of a problem come in this order.
enum Kind : int64_t { kForward, kData, kWeights };
enum Number { kKind, kBfloat16, kBatch, kHeight, kWidth, kInputs, kRows, kColumns, kOutputs,
              kTapRows, kTapColumns, kStrides, kPadding, kSwapped, kNumbers };
using Problem = std::array<int64_t, kNumbers>;

const dnnl::engine& Engine() {
  static const auto& engine = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return engine;  // like the programs, it is never freed: threads may outlive it
}

// While it lives, oneDNN works with this thread alone, and makes programs for one thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  const int before_;
};

// Memory that is kept for whoever needs about as much next. There are as many pieces of it as have
// been in use at the same time.
class Buffer {
 public:
  explicit Buffer(size_t bytes) {
    if (bytes == 0) return;
    {
      // the smallest that is large enough, unless it is far too large; else the largest below
      const std::lock_guard<std::mutex> turn(Lock());
      auto best = Kept().lower_bound(bytes);
      if (best == Kept().end() || best->first > std::max(kSmall, 4 * bytes))
        best = best == Kept().begin() ? Kept().end() : std::prev(best);
      if (best != Kept().end()) {
        std::tie(bytes_, start_) = *best;
        Kept().erase(best);
      }
    }
    if (bytes <= bytes_) return;
    std::free(start_);
    bytes_ = (bytes + 4095) / 4096 * 4096;
    start_ = static_cast<char*>(std::aligned_alloc(4096, bytes_));
    if (start_ == nullptr) throw std::bad_alloc();
  }

  ~Buffer() {
    if (start_ == nullptr) return;
    const std::lock_guard<std::mutex> turn(Lock());
    Kept().emplace(bytes_, start_);
  }

  Buffer(const Buffer&) = delete;

  char* start() const { return start_; }

 private:
  static std::mutex& Lock() {
    static auto& lock = *new std::mutex;
    return lock;
  }

  static std::multimap<size_t, char*>& Kept() {
    static auto& kept = *new std::multimap<size_t, char*>;
    return kept;
  }

  static constexpr size_t kSmall = 1 << 20;  // for any request

  size_t bytes_ = 0;
  char* start_ = nullptr;
};

// By default the memory that a program needs meanwhile belongs to the thread that made it, which
// may not be the one that runs it.
dnnl::primitive_attr OurScratch() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

// What computes a problem, or copies a kernel, with the memory that it needs meanwhile.
struct Program {
  dnnl::primitive primitive;
  memory::desc scratch;

  template <class Primitive, class Description>
  static Program Of(const Description& description) {
    return {Primitive(description), description.scratchpad_desc()};
  }

  static Program Copy(const memory::desc& from, const memory::desc& to) {
    return Of<dnnl::reorder>(
        dnnl::reorder::primitive_desc(Engine(), from, Engine(), to, OurScratch()));
  }

  void Run(std::unordered_map<int, memory> arguments) const {
    const Buffer buffer(scratch.get_size());
    dnnl::stream stream(Engine());
    arguments[DNNL_ARG_SCRATCHPAD] = memory(scratch, Engine(), buffer.start());
    primitive.execute(stream, arguments);
    stream.wait();
  }
};

// Rows of y (of x for kData) that are computed by themselves, the rows of the other image that
// belong to them, and the rows of zeros above and below those of x.
struct Strip {
  int64_t from, to, other_from, other_to, above, below;

  static Strip Of(const Problem& p, int64_t from, int64_t to) {
    const int64_t s = p[kStrides], k = p[kTapRows], padding = p[kPadding];
    if (p[kKind] == kData) {  // row i of x meets row r of y if i = r * s - padding + t, 0 <= t < k
      const int64_t first = std::max<int64_t>(0, Ceiling(from + padding - k + 1, s));
      const int64_t end = std::min(p[kRows], (to - 1 + padding) / s + 1);
      const int64_t last = (end - 1 - first) * s + k;  // rows of x that rows of y reach
      const int64_t above = from + padding - first * s;
      return {from, to, first, end, above, std::max<int64_t>(0, last - above - (to - from))};
    }
    const int64_t first = from * s - padding, end = (to - 1) * s - padding + k;
    // with the last strip go the rows of x that no kernel reaches: images follow each other whole
    const int64_t other_from = std::max<int64_t>(0, first);
    const int64_t other_to = to == p[kRows] ? p[kHeight] : std::min(p[kHeight], end);
    return {from, to, other_from, other_to, other_from - first,
            std::max<int64_t>(0, end - other_to)};
  }

  static int64_t Ceiling(int64_t a, int64_t b) { return a / b + (a % b > 0); }
};

// oneDNN's program for a batch of strips. Kernels are copied into the layout that it works with
// before, or out of it after: its own choice, or that of `alike`.
class Convolution {
 public:
  Convolution(const Problem& p, const Strip& strip, const Convolution* alike)
      : kind_(static_cast<Kind>(p[kKind])) {
    const OneThread alone;
    const auto type = p[kBfloat16] ? memory::data_type::bf16 : memory::data_type::f32;
    const int64_t own = strip.to - strip.from, other = strip.other_to - strip.other_from;
    const Dims x{p[kBatch], p[kInputs], kind_ == kData ? own : other, p[kWidth]};
    const Dims y{p[kBatch], p[kOutputs], kind_ == kData ? other : own, p[kColumns]};
    const Dims kernel{p[kOutputs], p[kInputs], p[kTapRows], p[kTapColumns]};
    large_ = memory::desc(x, type, memory::format_tag::nhwc);
    small_ = memory::desc(y, type, memory::format_tag::nhwc);
    // the sums of several parts are in float32
    const auto sums = kind_ == kWeights ? memory::data_type::f32 : type;
    const memory::desc any(kernel, type, memory::format_tag::any);
    const memory::desc inner =
        alike ? alike->theirs_ : memory::desc(kernel, sums, memory::format_tag::any);
    // the axes are OIHW, while ours lie in memory as HWIO, or HWOI if they are swapped
    const int64_t pair = p[kInputs] * p[kOutputs];
    const Dims steps{p[kSwapped] ? p[kInputs] : 1, p[kSwapped] ? 1 : p[kOutputs],
                     p[kTapColumns] * pair, pair};
    ours_ = memory::desc(kernel, type, steps);
    const int64_t reached = (p[kColumns] - 1) * p[kStrides] + p[kTapColumns] - p[kPadding];
    const Dims strides{p[kStrides], p[kStrides]}, low{strip.above, p[kPadding]};
    const Dims high{strip.below, std::max<int64_t>(0, reached - p[kWidth])};
    const auto direct = dnnl::algorithm::convolution_direct;
    const dnnl::primitive_attr attributes = OurScratch();
    const dnnl::convolution_forward::primitive_desc forward(
        Engine(), dnnl::prop_kind::forward_training, direct, large_,
        kind_ == kForward ? inner : any, small_, strides, low, high, attributes);
    if (kind_ == kForward) {
      Take<dnnl::convolution_forward>(forward, forward.weights_desc());
    } else if (kind_ == kData) {
      const dnnl::convolution_backward_data::primitive_desc data(
          Engine(), direct, large_, inner, small_, strides, low, high, forward, attributes);
      Take<dnnl::convolution_backward_data>(data, data.weights_desc());
    } else {
      const dnnl::convolution_backward_weights::primitive_desc weights(
          Engine(), direct, large_, inner, small_, strides, low, high, forward, attributes);
      Take<dnnl::convolution_backward_weights>(weights, weights.diff_weights_desc());
    }
    if (alike) return;  // which makes the copies for all
    copy_ = kind_ == kWeights ? Program::Copy(theirs_, ours_) : Program::Copy(ours_, theirs_);
  }

  const std::string& name() const { return name_; }
  const memory::desc& theirs() const { return theirs_; }

  // Copies a kernel in, or out for kWeights.
  void Copy(char* from, char* to) const {
    const bool out = kind_ == kWeights;
    copy_.Run({{DNNL_ARG_FROM, memory(out ? theirs_ : ours_, Engine(), from)},
               {DNNL_ARG_TO, memory(out ? ours_ : theirs_, Engine(), to)}});
  }

  void Run(char* x, char* y, char* kernel) const {
    const memory large(large_, Engine(), x), small(small_, Engine(), y);
    const memory inner(theirs_, Engine(), kernel);
    switch (kind_) {
      case kForward:
        program_.Run({{DNNL_ARG_SRC, large}, {DNNL_ARG_WEIGHTS, inner}, {DNNL_ARG_DST, small}});
        break;
      case kData:
        program_.Run({{DNNL_ARG_DIFF_DST, small}, {DNNL_ARG_WEIGHTS, inner},
                      {DNNL_ARG_DIFF_SRC, large}});
        break;
      case kWeights:
        program_.Run({{DNNL_ARG_SRC, large}, {DNNL_ARG_DIFF_DST, small},
                      {DNNL_ARG_DIFF_WEIGHTS, inner}});
    }
  }

 private:
  template <class Primitive, class Description>
  void Take(const Description& description, const memory::desc& kernel) {
    program_ = Program::Of<Primitive>(description);
    name_ = description.impl_info_str();
    theirs_ = kernel;
  }

  Kind kind_;
  std::string name_;
  memory::desc large_, small_, ours_, theirs_;
  Program program_, copy_;
};

}  // namespace
