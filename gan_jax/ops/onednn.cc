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
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "onednn_convolution.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

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
