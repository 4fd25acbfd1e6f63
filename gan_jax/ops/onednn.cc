// Convolutions of oneDNN as an operation of XLA's programs for CPUs. gan_jax/ops/onednn.py compiles
// this file on first use, and says which problems are left to it.

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <vector>

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
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN's program for a problem. The kernel is brought into the layout that oneDNN works with
// before, or out of it after. Not for several threads at a time.
class Convolution {
 public:
  explicit Convolution(const Problem& p) : kind_(static_cast<Kind>(p[kKind])) {
    const auto type = p[kBfloat16] ? memory::data_type::bf16 : memory::data_type::f32;
    const Dims x{p[kBatch], p[kInputs], p[kHeight], p[kWidth]};
    const Dims y{p[kBatch], p[kOutputs], p[kRows], p[kColumns]};
    const Dims kernel{p[kOutputs], p[kInputs], p[kTapRows], p[kTapColumns]};
    const memory::desc large(x, type, memory::format_tag::nhwc);
    const memory::desc small(y, type, memory::format_tag::nhwc);
    const memory::desc any(kernel, type, memory::format_tag::any);
    // the axes are OIHW, while ours lie in memory as HWIO, or HWOI if they are swapped
    const int64_t pair = p[kInputs] * p[kOutputs];
    const Dims steps{p[kSwapped] ? p[kInputs] : 1, p[kSwapped] ? 1 : p[kOutputs],
                     p[kTapColumns] * pair, pair};
    const memory::desc ours(kernel, type, steps);
    const Dims strides{p[kStrides], p[kStrides]}, padding{p[kPadding], p[kPadding]};
    const auto direct = dnnl::algorithm::convolution_direct;
    const dnnl::convolution_forward::primitive_desc forward(
        Engine(), dnnl::prop_kind::forward_training, direct, large, any, small, strides, padding,
        padding);
    memory::desc theirs;
    if (kind_ == kForward) {
      theirs = forward.weights_desc();
      name_ = forward.impl_info_str();
      program_ = dnnl::convolution_forward(forward);
    } else if (kind_ == kData) {
      const dnnl::convolution_backward_data::primitive_desc data(
          Engine(), direct, large, any, small, strides, padding, padding, forward);
      theirs = data.weights_desc();
      name_ = data.impl_info_str();
      program_ = dnnl::convolution_backward_data(data);
    } else {
      const dnnl::convolution_backward_weights::primitive_desc weights(
          Engine(), direct, large, any, small, strides, padding, padding, forward);
      theirs = weights.diff_weights_desc();
      name_ = weights.impl_info_str();
      program_ = dnnl::convolution_backward_weights(weights);
    }
    x_ = memory(large, Engine(), nullptr);
    y_ = memory(small, Engine(), nullptr);
    kernel_ = memory(ours, Engine(), nullptr);
    alike_ = theirs == ours;
    inner_ = alike_ ? kernel_ : memory(theirs, Engine());
    if (!alike_) {
      copy_ = kind_ == kWeights ? dnnl::reorder(inner_, kernel_) : dnnl::reorder(kernel_, inner_);
    }
  }

  const std::string& name() const { return name_; }

  void Run(void* first, void* second, void* result) {
    dnnl::stream stream(Engine());
    x_.set_data_handle(kind_ == kData ? result : first);
    y_.set_data_handle(kind_ == kForward ? result : kind_ == kData ? first : second);
    kernel_.set_data_handle(kind_ == kWeights ? result : second);
    if (kind_ == kWeights) {
      program_.execute(stream, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_DIFF_DST, y_},
                                {DNNL_ARG_DIFF_WEIGHTS, inner_}});
      if (!alike_) copy_.execute(stream, inner_, kernel_);
    } else {
      if (!alike_) copy_.execute(stream, kernel_, inner_);
      const bool forward = kind_ == kForward;
      program_.execute(stream, {{forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_SRC, x_},
                                {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, y_},
                                {DNNL_ARG_WEIGHTS, inner_}});
    }
    stream.wait();
  }

 private:
  Kind kind_;
  std::string name_;
  bool alike_ = false;
  dnnl::primitive program_;
  dnnl::reorder copy_;
  memory x_, y_, kernel_, inner_;
};

std::mutex turn;  // one convolution at a time has all cores

// Made once for every problem; call it with `turn` held.
Convolution& Of(const Problem& problem) {
  static auto& made = *new std::map<Problem, Convolution>();  // threads may outlive static objects
  const auto found = made.find(problem);
  return found != made.end() ? found->second : made.try_emplace(problem, problem).first->second;
}

ffi::Error Convolve(ffi::Span<const int64_t> numbers, ffi::AnyBuffer first, ffi::AnyBuffer second,
                    ffi::Result<ffi::AnyBuffer> result) {
  Problem problem;
  if (numbers.size() != problem.size()) return ffi::Error::InvalidArgument("gan_jax.onednn: size");
  std::copy(numbers.begin(), numbers.end(), problem.begin());
  const std::lock_guard<std::mutex> held(turn);
  try {
    Of(problem).Run(first.untyped_data(), second.untyped_data(), result->untyped_data());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("gan_jax.onednn: ") + error.what());
  }
  return ffi::Error::Success();
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
  const std::lock_guard<std::mutex> held(turn);
  try {
    return Of(problem).name().c_str();
  } catch (const std::exception&) {
    return "";
  }
}
