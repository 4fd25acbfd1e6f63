// Convolutions of oneDNN as an operation of XLA's programs for CPUs. gan_jax/ops/onednn.py compiles
// this file on first use, and says which problems are left to it.
//
// A problem is cut into pieces, which XLA's threads compute, and oneDNN begins no threads. Its own
// would compete for the cores with XLA's, which compute other operations of the program meanwhile.

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

// of OpenMP, with which the library is linked
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int threads);

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

// Memory that is kept for whoever needs some next, so that there is as much of it as has been in
// use at the same time.
class Buffer {
 public:
  explicit Buffer(size_t bytes) {
    {
      const std::lock_guard<std::mutex> turn(Lock());
      auto best = Kept().lower_bound(bytes);  // the smallest that is large enough, or the largest
      if (best == Kept().end() && !Kept().empty()) best = std::prev(best);
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

  size_t bytes_ = 0;
  char* start_ = nullptr;
};

// Pieces of work, which this thread and XLA's others take one after the other.
class Pieces {
 public:
  // Returns when all are done. Throws what a piece has thrown.
  static void Do(ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> piece) {
    // helpers that find their turn only afterwards still look at it
    const auto all = std::make_shared<Pieces>(count, std::move(piece));
    const int64_t helpers = std::min(count, pool.num_threads()) - 1;
    for (int64_t i = 0; i < helpers; ++i) pool.Schedule([all] { all->Work(); });
    all->Work();
    std::unique_lock<std::mutex> lock(all->lock_);
    all->changed_.wait(lock, [&] { return all->done_ == count; });
    if (all->error_) std::rethrow_exception(all->error_);
  }

  Pieces(int64_t count, std::function<void(int64_t)> piece)
      : count_(count), piece_(std::move(piece)) {}

 private:
  void Work() {
    for (int64_t i; (i = next_++) < count_;) {
      std::exception_ptr error;
      try {
        const OneThread alone;
        piece_(i);
      } catch (...) {
        error = std::current_exception();
      }
      const std::lock_guard<std::mutex> lock(lock_);
      if (error) error_ = error;
      if (++done_ == count_) changed_.notify_all();
    }
  }

  const int64_t count_;
  const std::function<void(int64_t)> piece_;
  std::atomic<int64_t> next_{0};
  std::mutex lock_;
  std::condition_variable changed_;
  int64_t done_ = 0;
  std::exception_ptr error_;
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

// A problem as its pieces. Images are computed one by one, in strips of kPiece operations or more,
// in the same way in any batch and by any number of threads, so that their bits do not depend on
// these. Where the kernel is computed, there is a part for each thread at most: a range of images,
// or strips of them if there are few.
class Plan {
 public:
  // The batch of the problem counts for kWeights alone.
  Plan(const Problem& problem, int64_t threads) : problem_(problem) {
    if (Fits(kHeight, kTapRows) != problem[kRows] || Fits(kWidth, kTapColumns) != problem[kColumns])
      throw std::invalid_argument("no image of this size has a result of that one");
    const int64_t rows = problem[problem[kKind] == kData ? kHeight : kRows];
    const int64_t kernel = problem[kInputs] * problem[kOutputs] * problem[kTapRows] *
                           problem[kTapColumns];
    const int64_t operations = 2 * problem[kRows] * problem[kColumns] * kernel;  // of an image
    int64_t strips;
    if (problem[kKind] == kWeights) {
      const int64_t batch = problem[kBatch];
      const int64_t parts =
          AtLeastOne(std::min({threads, kMostSums / kernel, batch * operations / kPart}));
      groups_ = std::min(batch, parts);
      strips = std::min(AtLeastOne(parts / batch), rows);
    } else {
      strips = AtLeastOne(std::min({operations / kPiece, kMostStrips, rows / kRowsOfStrip}));
      // between the rows that a kernel meets are such as it does not
      if (problem[kTapRows] < problem[kStrides]) strips = 1;
    }
    for (int64_t i = 0; i < strips; ++i)
      strips_.push_back(Strip::Of(problem, rows * i / strips, rows * (i + 1) / strips));
    for (int64_t group = 0; group < groups_; ++group)
      for (const Strip& strip : strips_) programs_.push_back(&Made(Images(group), strip));
  }

  Plan(const Plan&) = delete;

  // The name of what computes it; that of oneDNN's reference, which is slow, if it computes a part.
  std::string name() const {
    for (const Convolution* program : programs_)
      if (program->name().rfind(kReference, 0) == 0) return program->name();
    return programs_[0]->name();
  }

  bool slow() const { return name().rfind(kReference, 0) == 0; }

  void Compute(ffi::ThreadPool& pool, int64_t batch, char* first, char* second,
               char* result) const {
    const size_t kernel = programs_[0]->theirs().get_size();
    if (problem_[kKind] == kWeights) {
      const Buffer sums(kernel * programs_.size());
      Pieces::Do(pool, programs_.size(), [&](int64_t i) {
        programs_[i]->Run(X(first, i), Y(second, i), sums.start() + i * kernel);
      });
      Sum(pool, reinterpret_cast<float*>(sums.start()), kernel / sizeof(float));
      const OneThread alone;
      programs_[0]->Copy(sums.start(), result);
      return;
    }
    const Buffer copied(kernel);
    {
      const OneThread alone;
      programs_[0]->Copy(second, copied.start());
    }
    const bool forward = problem_[kKind] == kForward;
    Pieces::Do(pool, batch * programs_.size(), [&](int64_t i) {
      programs_[i % programs_.size()]->Run(X(forward ? first : result, i),
                                           Y(forward ? result : first, i), copied.start());
    });
  }

 private:
  static constexpr char kReference[] = "ref";
  static constexpr int64_t kPiece = 1 << 27, kMostStrips = 8, kRowsOfStrip = 4;
  static constexpr int64_t kPart = 1 << 20;      // operations of a part at least
  static constexpr int64_t kMostSums = 1 << 26;  // numbers in the sums of all parts at most

  using Size = std::array<int64_t, 5>;

  static int64_t AtLeastOne(int64_t number) { return std::max<int64_t>(1, number); }

  // How often the kernel fits into the rows or columns of x.
  int64_t Fits(Number side, Number taps) const {
    return (problem_[side] + 2 * problem_[kPadding] - problem_[taps]) / problem_[kStrides] + 1;
  }

  // The first image of a group, which is one image if not for kWeights.
  int64_t From(int64_t group) const {
    return problem_[kKind] == kWeights ? problem_[kBatch] * group / groups_ : group;
  }
  int64_t Images(int64_t group) const { return From(group + 1) - From(group); }

  // Where the rows of a piece begin.
  char* X(char* start, int64_t piece) const {
    const Strip& strip = strips_[piece % strips_.size()];
    const int64_t row = problem_[kKind] == kData ? strip.from : strip.other_from;
    return start + Bytes((From(piece / strips_.size()) * problem_[kHeight] + row) *
                         problem_[kWidth] * problem_[kInputs]);
  }
  char* Y(char* start, int64_t piece) const {
    const Strip& strip = strips_[piece % strips_.size()];
    const int64_t row = problem_[kKind] == kData ? strip.other_from : strip.from;
    return start + Bytes((From(piece / strips_.size()) * problem_[kRows] + row) *
                         problem_[kColumns] * problem_[kOutputs]);
  }
  int64_t Bytes(int64_t numbers) const { return numbers * (problem_[kBfloat16] ? 2 : 4); }

  // The program for a strip of so many images, made once for all that are of the same size.
  const Convolution& Made(int64_t images, const Strip& strip) {
    const Size size{images, strip.to - strip.from, strip.other_to - strip.other_from, strip.above,
                    strip.below};
    const auto found = made_.find(size);
    if (found != made_.end()) return found->second;
    Problem problem = problem_;
    problem[kBatch] = images;
    const Convolution* const first = programs_.empty() ? nullptr : programs_[0];
    return made_.try_emplace(size, problem, strip, first).first->second;
  }

  // Adds the sums of all parts up, in the first part's place.
  void Sum(ffi::ThreadPool& pool, float* sums, size_t size) const {
    constexpr size_t kBlock = 1 << 16;
    if (programs_.size() == 1) return;
    Pieces::Do(pool, (size + kBlock - 1) / kBlock, [&](int64_t block) {
      const size_t end = std::min(size, (block + 1) * kBlock);
      for (size_t part = 1; part < programs_.size(); ++part)
        for (size_t i = block * kBlock; i < end; ++i) sums[i] += sums[part * size + i];
    });
  }

  Problem problem_;
  int64_t groups_ = 1;
  std::vector<Strip> strips_;
  std::map<Size, Convolution> made_;
  std::vector<const Convolution*> programs_;
};

// Made once for every problem: a single part if that is all that oneDNN can compute.
const Plan& PlanOf(Problem problem, int64_t threads) {
  static auto& lock = *new std::mutex;
  const std::lock_guard<std::mutex> turn(lock);
  static auto& made = *new std::map<std::pair<Problem, int64_t>, std::unique_ptr<Plan>>();
  if (problem[kKind] != kWeights) problem[kBatch] = threads = 1;
  auto& plan = made[{problem, threads}];
  if (plan) return *plan;
  std::unique_ptr<Plan> found;
  try {
    found = std::make_unique<Plan>(problem, threads);
  } catch (const std::exception&) {
    if (threads == 1) throw;
  }
  if (threads > 1 && (!found || found->slow())) found = std::make_unique<Plan>(problem, 1);
  plan = std::move(found);
  return *plan;
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

ffi::Error Convolve(ffi::ThreadPool pool, ffi::Span<const int64_t> numbers, ffi::AnyBuffer first,
                    ffi::AnyBuffer second, ffi::Result<ffi::AnyBuffer> result) {
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
  try {
    const Plan& plan = PlanOf(problem, std::max<int64_t>(1, pool.num_threads()));
    for (size_t i = 0; i < count; ++i) {
      plan.Compute(pool, problem[kBatch], start(first) + Position(first, *result, i),
                   start(second) + Position(second, *result, i),
                   start(*result) + Position(*result, *result, i));
    }
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("gan_jax: oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gan_jax_convolve, Convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<ffi::Span<const int64_t>>("problem")
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

// The name of what oneDNN computes a problem of kNumbers numbers with; "" if it cannot.
extern "C" const char* gan_jax_implementation(const int64_t* numbers) {
  Problem problem;
  std::copy(numbers, numbers + problem.size(), problem.begin());
  thread_local std::string name;
  try {
    name = PlanOf(problem, 1).name();
  } catch (const std::exception&) {
    name.clear();
  }
  return name.c_str();
}
