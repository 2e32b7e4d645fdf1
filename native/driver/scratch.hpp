// Memory for the length of a call, or from a forward pass to its way back: 64-byte aligned, not initialised unless asked for.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "throughtime/layer.hpp"

namespace throughtime {

template <class T> class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(Index count, bool zero = false) {
    if (count <= 0) return;
    const std::size_t bytes = (std::size_t(count) * sizeof(T) + 63) / 64 * 64;
    memory_.reset(static_cast<T*>(take_block(bytes)));
    if (zero) std::memset(static_cast<void*>(memory_.get()), 0, bytes);
  }
  T* get() const { return memory_.get(); }
  T& operator[](Index i) const { return memory_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { give_block(p); }
  };
  std::unique_ptr<T, Free> memory_;
};

}  // namespace throughtime
