// Convolutions of oneDNN as an operation of XLA's programs for CPUs. gan_jax/ops/onednn.py compiles
// this file on first use, and says which problems are left to it.

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
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
  return engine;  // like all that is made here, it is never freed: threads may outlive it
}

// Memory that grows to the most that was asked for. What it holds is lost with the next call.
class Buffer {
 public:
  void* Of(size_t bytes) {
    if (bytes > bytes_) {
      std::free(start_);
      bytes_ = (bytes + 4095) / 4096 * 4096;
      start_ = std::aligned_alloc(4096, bytes_);
      if (start_ == nullptr) {
        bytes_ = 0;
        throw std::bad_alloc();
      }
    }
    return start_;
  }

 private:
  void* start_ = nullptr;
  size_t bytes_ = 0;
};

// Memory of the library's own belongs to the thread that makes a program; it is to take ours.
dnnl::primitive_attr OurScratch() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

// What computes a problem, or copies a kernel, with the memory that it needs meanwhile.
struct Program {
  dnnl::primitive primitive;
  memory::desc scratch;

  template <class Description, class Primitive>
  static Program Of(const Description& description, Primitive primitive) {
    return {primitive, description.scratchpad_desc()};
  }

  void Run(dnnl::stream& stream, std::unordered_map<int, memory> arguments) const {
    static auto& buffer = *new Buffer;
    arguments[DNNL_ARG_SCRATCHPAD] = memory(scratch, Engine(), buffer.Of(scratch.get_size()));
    primitive.execute(stream, arguments);
  }
};

// oneDNN's program for a problem. The kernel is brought into the layout that oneDNN works with
// before, or out of it after. Not for several threads at a time.
class Convolution {
 public:
  explicit Convolution(const Problem& p) : kind_(static_cast<Kind>(p[kKind])) {
    const auto type = p[kBfloat16] ? memory::data_type::bf16 : memory::data_type::f32;
    const Dims x{p[kBatch], p[kInputs], p[kHeight], p[kWidth]};
    const Dims y{p[kBatch], p[kOutputs], p[kRows], p[kColumns]};
    const Dims kernel{p[kOutputs], p[kInputs], p[kTapRows], p[kTapColumns]};
    large_ = memory::desc(x, type, memory::format_tag::nhwc);
    small_ = memory::desc(y, type, memory::format_tag::nhwc);
    const memory::desc any(kernel, type, memory::format_tag::any);
    // the axes are OIHW, while ours lie in memory as HWIO, or HWOI if they are swapped
    const int64_t pair = p[kInputs] * p[kOutputs];
    const Dims steps{p[kSwapped] ? p[kInputs] : 1, p[kSwapped] ? 1 : p[kOutputs],
                     p[kTapColumns] * pair, pair};
    ours_ = memory::desc(kernel, type, steps);
    const Dims strides{p[kStrides], p[kStrides]}, padding{p[kPadding], p[kPadding]};
    const auto direct = dnnl::algorithm::convolution_direct;
    const dnnl::primitive_attr attributes = OurScratch();
    const dnnl::convolution_forward::primitive_desc forward(
        Engine(), dnnl::prop_kind::forward_training, direct, large_, any, small_, strides, padding,
        padding, attributes);
    if (kind_ == kForward) {
      theirs_ = forward.weights_desc();
      name_ = forward.impl_info_str();
      make_ = [=] { return Program::Of(forward, dnnl::convolution_forward(forward)); };
    } else if (kind_ == kData) {
      const dnnl::convolution_backward_data::primitive_desc data(
          Engine(), direct, large_, any, small_, strides, padding, padding, forward, attributes);
      theirs_ = data.weights_desc();
      name_ = data.impl_info_str();
      make_ = [=] { return Program::Of(data, dnnl::convolution_backward_data(data)); };
    } else {
      const dnnl::convolution_backward_weights::primitive_desc weights(
          Engine(), direct, large_, any, small_, strides, padding, padding, forward, attributes);
      theirs_ = weights.diff_weights_desc();
      name_ = weights.impl_info_str();
      make_ = [=] { return Program::Of(weights, dnnl::convolution_backward_weights(weights)); };
    }
  }

  const std::string& name() const { return name_; }

  void Run(char* first, char* second, char* result) {
    Prepare();
    dnnl::stream stream(Engine());
    char* const y = kind_ == kForward ? result : kind_ == kData ? first : second;
    const memory large(large_, Engine(), kind_ == kData ? result : first);
    const memory small(small_, Engine(), y);
    const memory ours(ours_, Engine(), kind_ == kWeights ? result : second);
    static auto& buffer = *new Buffer;
    const memory inner =
        copied_ ? memory(theirs_, Engine(), buffer.Of(theirs_.get_size())) : ours;
    if (copied_ && kind_ != kWeights) copy_.Run(stream, {{DNNL_ARG_FROM, ours}, {DNNL_ARG_TO, inner}});
    switch (kind_) {
      case kForward:
        program_.Run(stream, {{DNNL_ARG_SRC, large}, {DNNL_ARG_WEIGHTS, inner},
                              {DNNL_ARG_DST, small}});
        break;
      case kData:
        program_.Run(stream, {{DNNL_ARG_DIFF_DST, small}, {DNNL_ARG_WEIGHTS, inner},
                              {DNNL_ARG_DIFF_SRC, large}});
        break;
      case kWeights:
        program_.Run(stream, {{DNNL_ARG_SRC, large}, {DNNL_ARG_DIFF_DST, small},
                              {DNNL_ARG_DIFF_WEIGHTS, inner}});
    }
    if (copied_ && kind_ == kWeights) copy_.Run(stream, {{DNNL_ARG_FROM, inner}, {DNNL_ARG_TO, ours}});
    stream.wait();
  }

 private:
  // Makes the programs, which a problem that is only asked about does not need.
  void Prepare() {
    if (program_.primitive) return;
    copied_ = theirs_ != ours_;
    if (copied_) {
      const bool out = kind_ == kWeights;
      const dnnl::reorder::primitive_desc copy(Engine(), out ? theirs_ : ours_, Engine(),
                                               out ? ours_ : theirs_, OurScratch());
      copy_ = Program::Of(copy, dnnl::reorder(copy));
    }
    program_ = make_();
  }

  Kind kind_;
  std::string name_;
  memory::desc large_, small_, ours_, theirs_;
  std::function<Program()> make_;
  Program program_, copy_;
  bool copied_ = false;
};

// Computes all convolutions, one at a time, each with all cores. It is one thread, because OpenMP
// keeps helpers for every thread that it has worked for, and XLA's threads are as many as the cores.
class Worker {
 public:
  // The job's error; "" if there was none.
  std::string Do(const std::function<void()>& job) {
    const std::lock_guard<std::mutex> turn(turn_);
    std::unique_lock<std::mutex> lock(lock_);
    try {
      if (!started_) std::thread([this] { Loop(); }).detach();
    } catch (const std::exception& error) {
      return error.what();
    }
    started_ = true;
    job_ = &job;
    changed_.notify_all();
    changed_.wait(lock, [this] { return job_ == nullptr; });
    return error_;
  }

 private:
  void Loop() {
    std::unique_lock<std::mutex> lock(lock_);
    for (;;) {
      changed_.wait(lock, [this] { return job_ != nullptr; });
      error_.clear();
      try {
        (*job_)();
      } catch (const std::exception& error) {
        error_ = error.what();
      }
      job_ = nullptr;
      changed_.notify_all();
    }
  }

  std::mutex turn_, lock_;
  std::condition_variable changed_;
  const std::function<void()>* job_ = nullptr;
  std::string error_;
  bool started_ = false;
};

Worker& worker = *new Worker;

// Made once for every problem; for the worker alone.
Convolution& Of(const Problem& problem) {
  static auto& made = *new std::map<Problem, Convolution>();
  const auto found = made.find(problem);
  return found != made.end() ? found->second : made.try_emplace(problem, problem).first->second;
}

// The position of an array in a buffer of more axes than it has, which jax.vmap adds in front. The
// axes of one buffer are those of another, or 1.
size_t Position(const ffi::AnyBuffer& buffer, const ffi::AnyBuffer& other, size_t index) {
  const auto own = buffer.dimensions(), all = other.dimensions();
  size_t position = 0, step = buffer.size_bytes();
  for (size_t axis = 0; axis + 4 < own.size(); ++axis) step /= own[axis];
  for (size_t axis = all.size() - 4; axis-- > 0; index /= all[axis]) {
    position += own[axis] == 1 ? 0 : index % all[axis] * step;
    step *= own[axis];
  }
  return position;
}

ffi::Error Convolve(ffi::Span<const int64_t> numbers, ffi::AnyBuffer first, ffi::AnyBuffer second,
                    ffi::Result<ffi::AnyBuffer> result) {
  Problem problem;
  if (numbers.size() != problem.size()) return ffi::Error::InvalidArgument("gan_jax: problem");
  std::copy(numbers.begin(), numbers.end(), problem.begin());
  size_t count = 1;
  bool one_kernel = problem[kKind] != kWeights, all_first = true;
  const auto dims = result->dimensions();
  for (size_t axis = 0; axis + 4 < dims.size(); ++axis) {
    count *= dims[axis];
    one_kernel &= second.dimensions()[axis] == 1;
    all_first &= first.dimensions()[axis] == dims[axis];
  }
  if (one_kernel && all_first) {  // the same as a larger batch
    problem[kBatch] *= count;
    count = 1;
  }
  const auto start = [](const ffi::AnyBuffer& buffer) {
    return static_cast<char*>(buffer.untyped_data());
  };
  const std::string error = worker.Do([&] {
    for (size_t i = 0; i < count; ++i) {
      Of(problem).Run(start(first) + Position(first, *result, i),
                      start(second) + Position(second, *result, i),
                      start(*result) + Position(*result, *result, i));
    }
  });
  return error.empty() ? ffi::Error::Success() : ffi::Error::Internal("gan_jax: oneDNN: " + error);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gan_jax_convolve, Convolve,
                              ffi::Ffi::Bind()
                                  .Attr<ffi::Span<const int64_t>>("problem")
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

// The name of what oneDNN computes a problem of kNumbers numbers with; "" if it cannot.
extern "C" const char* gan_jax_implementation(const int64_t* numbers) {
  Problem problem;
  std::copy(numbers, numbers + problem.size(), problem.begin());
  const char* name = "";
  return worker.Do([&] { name = Of(problem).name().c_str(); }).empty() ? name : "";
}
