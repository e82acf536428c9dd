// The entry points of the evaluator: unpack programs and buffers, and let XLA's threads work through the blocks.
#include <algorithm>
#include <new>

#include "crew.h"
#include "kernel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace planahead {
namespace {

// Blocks that a thread should have before another is asked to help.
constexpr int64_t kBlocksPerThread = 4;

// Programs as src/planahead/tape/evaluate.py packs them: the number of segments, and of each its sizes and tables.
class Reader {
 public:
  Reader(const int32_t* program, int64_t size, const double* values) : at_(program), end_(program + size), values_(values) {}

  std::vector<Segment> segments(int64_t lanes) {
    std::vector<Segment> found(static_cast<size_t>(next()));
    for (Segment& s : found) {
      for (int32_t* field : {&s.stages, &s.slots, &s.constants, &s.inputs, &s.once_count, &s.every_count, &s.outputs}) *field = next();
      s.values = values_;
      values_ += s.constants;
      s.sources = table<Source>(s.inputs);
      s.once = table<Instruction>(s.once_count);
      s.every = table<Instruction>(s.every_count);
      s.targets = table<Target>(s.outputs);
      s.blocks = (s.stages * lanes + kBlock - 1) / kBlock;
    }
    return found;
  }

  // Whether program and values were read to their ends.
  bool complete(const double* values_end) const { return at_ == end_ && values_ == values_end; }

 private:
  int32_t next() { return at_ < end_ ? *at_++ : 0; }

  template <typename Row>
  const Row* table(int32_t rows) {
    const Row* first = reinterpret_cast<const Row*>(at_);
    at_ += rows * int64_t(sizeof(Row) / sizeof(int32_t));
    return first;
  }

  const int32_t *at_, *end_;
  const double* values_;
};

template <typename T>
ffi::Error evaluate(ffi::ThreadPool pool, ffi::Buffer<ffi::S32> program, ffi::AnyBuffer constants, ffi::RemainingArgs args,
                    ffi::RemainingRets rets, int64_t lanes) try {
  constexpr ffi::DataType type = sizeof(T) == 4 ? ffi::DataType::F32 : ffi::DataType::F64;
  // Constants come as the bits of float64: JAX has no such arrays where x64 is off.
  if (constants.element_type() != ffi::DataType::S32) return ffi::Error::InvalidArgument("planahead: constants of another format");
  TapeCall<T> call;
  call.lanes = lanes;
  std::vector<double> values(constants.element_count() / 2);
  std::copy_n(static_cast<const char*>(constants.untyped_data()), values.size() * sizeof(double), reinterpret_cast<char*>(values.data()));
  Reader reader(program.typed_data(), int64_t(program.element_count()), values.data());
  call.segments = reader.segments(lanes);
  if (!reader.complete(values.data() + values.size())) return ffi::Error::InvalidArgument("planahead: a program of another length");
  for (size_t i = 0; i < args.size(); i++) {
    auto buffer = args.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return buffer.error();
    if (buffer->element_type() != type) return ffi::Error::InvalidArgument("planahead: mixed number formats");
    call.arrays.push_back(static_cast<const T*>(buffer->untyped_data()));
  }
  for (size_t i = 0; i < rets.size(); i++) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return buffer.error();
    if ((*buffer)->element_type() != type) return ffi::Error::InvalidArgument("planahead: mixed number formats");
    call.outputs.push_back(static_cast<T*>((*buffer)->untyped_data()));
  }
  Blocks blocks;
  for (const Segment& segment : call.segments) blocks.count += segment.blocks;
  const Evaluators& evaluators = best_kernels().evaluators;
  auto work = [&evaluators, &call, &blocks]() {
    if constexpr (sizeof(T) == 4)
      evaluators.evaluate32(call, blocks);
    else
      evaluators.evaluate64(call, blocks);
  };
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), blocks.count / kBlocksPerThread) - 1;
  if (Crew::run(pool, helpers, work)) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "planahead: no memory to evaluate in");
} catch (const std::bad_alloc&) {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "planahead: no memory to evaluate in");
}

auto evaluation() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<ffi::Buffer<ffi::S32>>()
      .Arg<ffi::AnyBuffer>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<int64_t>("lanes");
}

}  // namespace
}  // namespace planahead

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_evaluate_f32, planahead::evaluate<float>, planahead::evaluation());
XLA_FFI_DEFINE_HANDLER_SYMBOL(planahead_evaluate_f64, planahead::evaluate<double>, planahead::evaluation());
#pragma GCC visibility pop
