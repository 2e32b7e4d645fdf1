// See scratch.hpp.
#include "driver/scratch.hpp"

#include <atomic>
#include <mutex>
#include <vector>

namespace throughtime {
namespace {

// In front of every block, so that it can be given back by its address alone; a whole cache line, for the alignment.
struct alignas(64) Header {
  std::size_t bytes;
};

constexpr std::size_t small = 32 * 1024;  // malloc keeps these itself

struct Waiting {
  std::mutex mutex;
  std::vector<Header*> blocks;  // the one that was given back last is the last
  std::size_t bytes = 0;
};

// Never destroyed, since threads may still be at work when the process ends.
Waiting& waiting() {
  static Waiting* const all = new Waiting;
  return *all;
}

#if defined(__SANITIZE_ADDRESS__)
std::atomic<std::size_t> most{0};  // what is used again is guarded no more
#else
std::atomic<std::size_t> most{128 * 1024 * 1024};
#endif

Header* fresh(std::size_t bytes) {
  void* memory = std::aligned_alloc(64, sizeof(Header) + bytes);
  if (!memory) throw std::bad_alloc();
  return new (memory) Header{bytes};
}

// Gives the oldest back to the system until so many bytes are left.
void shrink(Waiting& all, std::size_t limit) {
  std::size_t gone = 0;
  for (; all.bytes > limit; ++gone) {
    all.bytes -= all.blocks[gone]->bytes;
    std::free(all.blocks[gone]);
  }
  all.blocks.erase(all.blocks.begin(), all.blocks.begin() + std::ptrdiff_t(gone));
}

}  // namespace

void* take_block(std::size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;  // aligned_alloc asks for multiples
  Waiting& all = waiting();
  // Whoever would have to wait does without: a child made by fork() may find the lock held by nobody that still exists.
  std::unique_lock<std::mutex> lock(all.mutex, std::try_to_lock);
  if (bytes >= small && lock.owns_lock()) {
    std::size_t best = all.blocks.size();
    for (std::size_t i = all.blocks.size(); i-- > 0;) {  // the warmest first
      const std::size_t there = all.blocks[i]->bytes;
      if (there >= bytes && there <= 2 * bytes && (best == all.blocks.size() || there < all.blocks[best]->bytes)) best = i;
      if (there == bytes) break;
    }
    if (best < all.blocks.size()) {
      Header* block = all.blocks[best];
      all.blocks.erase(all.blocks.begin() + std::ptrdiff_t(best));
      all.bytes -= block->bytes;
      return block + 1;
    }
  }
  return fresh(bytes) + 1;
}

void give_block(void* memory) noexcept {
  Header* block = static_cast<Header*>(memory) - 1;
  Waiting& all = waiting();
  std::unique_lock<std::mutex> lock(all.mutex, std::try_to_lock);
  if (block->bytes < small || block->bytes > most || !lock.owns_lock()) return std::free(block);
  try {
    all.blocks.push_back(block);
  } catch (const std::bad_alloc&) {
    return std::free(block);
  }
  all.bytes += block->bytes;
  shrink(all, most);
}

void keep_memory(Index bytes) {
  most = std::size_t(bytes);
  Waiting& all = waiting();
  std::lock_guard<std::mutex> lock(all.mutex);
  shrink(all, most);
}

}  // namespace throughtime
