#pragma once

namespace headrace {

class Clock;
class FileSystem;
class Log;
class Progress;
class ThreadPool;
class Trace;

/// What every room needs from its surroundings, passed by reference in place of globals. Borrows:
/// the objects outlive every user of the context.
struct Context {
  FileSystem& fs;
  ThreadPool& pool;
  Log& log;
  Progress& progress;
  const Clock& clock;
  Trace& trace;
};

}  // namespace headrace
