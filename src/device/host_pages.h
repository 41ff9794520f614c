#pragma once

#include <cstddef>

namespace headrace {

/// New pages of host memory with this protection (PROT_NONE: addresses alone), zeroed, taken from
/// the system when they are first touched. Error{kOutOfMemory} naming `purpose`.
std::byte* map_host_pages(size_t size_bytes, int protection, const char* purpose);

/// Asks for huge pages, if there are enough bytes.
void ask_for_huge_pages(std::byte* data, size_t size_bytes);

}  // namespace headrace
