// The getp mode: reads the requests, times warm_up, inference and finish, writes the generated tokens. And the mode
// requests, which tells other programs what getp reads in an input file, so that none needs a reader of its own.
//
// input:  first line the number of requests N, then N lines, each the raw text of one prompt. CRLF line ends, a UTF-8
//         byte order mark at the start and a last line without an end are fine; lines may have any length. NUL bytes
//         are refused, since a prompt is a C string.
// output: N lines, each the ids of the tokens generated for that request, separated by one space.
//
// Included by run.cpp, and again by getp-csrc/getp_run.cpp.
#ifndef GETP_EVAL
#define GETP_EVAL

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

typedef struct {
  int num_reqs;
  int max_token_len;     // bytes of the vocabulary's longest token
  int max_seq_len;       // steps: the most tokens a request may have, prompt included
  char *str_reqs;        // the prompts, each ends with NUL
  int64_t *str_offsets;  // (num_reqs) where each starts: a prompt of any length takes its own bytes and no more
  int *tok_gens;         // (num_reqs, max_seq_len + 1) generated tokens; -1 ends a row
} Requests;

char *get_str_req_ptr(Requests *requests, int idx) { return requests->str_reqs + requests->str_offsets[idx]; }

int *get_tok_gen_ptr(Requests *requests, int idx) {
  return requests->tok_gens + int64_t{idx} * (requests->max_seq_len + 1);
}

// Stores the prompts, with an empty row of generated tokens for each.
void build_requests(Requests *requests, const std::vector<std::string_view> &prompts, int max_token_len,
                    int max_seq_len) {
  requests->num_reqs = (int)prompts.size();
  requests->max_token_len = max_token_len;
  requests->max_seq_len = max_seq_len;
  int64_t bytes = 0;
  for (std::string_view prompt : prompts) bytes += (int64_t)prompt.size() + 1;
  const int64_t tokens = int64_t{requests->num_reqs} * (max_seq_len + 1);
  requests->str_reqs = allocate<char>(bytes);
  requests->str_offsets = allocate<int64_t>(requests->num_reqs);
  requests->tok_gens = allocate<int>(tokens);
  int64_t offset = 0;
  for (int i = 0; i < requests->num_reqs; i++) {
    requests->str_offsets[i] = offset;
    std::copy(prompts[i].begin(), prompts[i].end(), requests->str_reqs + offset);
    offset += (int64_t)prompts[i].size() + 1;
    get_tok_gen_ptr(requests, i)[0] = -1;
  }
  printf("requests size = %lld B\n", (long long)(bytes + tokens * (int64_t)sizeof(int)));
  fflush(stdout);
}

void free_requests(Requests *requests) {
  free(requests->str_reqs);
  free(requests->str_offsets);
  free(requests->tok_gens);
}

std::string read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fatal("%s: cannot open the input file: %s", path, strerror(errno));
  std::string text;
  std::vector<char> chunk(1 << 20);
  while (const size_t count = fread(chunk.data(), 1, chunk.size(), file)) text.append(chunk.data(), count);
  if (ferror(file)) fatal("%s: cannot read the input file: %s", path, strerror(errno));
  fclose(file);
  return text;
}

// The lines of a text without their ends (LF or CRLF); the last one needs none.
std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// A positive int written in digits, blanks around it allowed; 0 for anything else.
int parse_request_count(std::string_view text) {
  const char *blanks = " \t\r";
  text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
  text = text.substr(0, text.find_last_not_of(blanks) + 1);
  uint64_t count = 0;
  getp_hip::read_number(text, 1, INT_MAX, count);
  return (int)count;
}

// The prompts of an input file, as views of *content, which takes the file. A file that cannot be read, has no valid
// count, has fewer lines than it announces or holds NUL bytes ends the program; lines beyond the count are left out
// with a warning.
std::vector<std::string_view> read_prompts(const char *path, std::string *content) {
  *content = read_file(path);
  std::string_view text = *content;
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);
  std::vector<std::string_view> lines = split_lines(text);
  if (lines.empty()) fatal("%s: the input file is empty; its first line must be the number of requests", path);
  const int count = parse_request_count(lines[0]);
  if (count == 0)
    fatal("%s: line 1 must be the number of requests, 1 to %d, but it is \"%.*s\"", path, INT_MAX,
          (int)std::min<size_t>(lines[0].size(), 40), lines[0].data());
  lines.erase(lines.begin());
  if (lines.size() < (size_t)count)
    fatal("%s: line 1 announces %d requests, but the file ends after line %zu, which makes %zu; correct the count",
          path, count, lines.size() + 1, lines.size());
  if (lines.size() > (size_t)count)
    fprintf(stderr, "warning: %s: line 1 announces %d requests; line %d and all after it are left out\n", path, count,
            count + 2);
  lines.resize(count);
  for (int i = 0; i < count; i++)
    if (lines[i].find('\0') != std::string_view::npos)
      fatal("%s: line %d contains a NUL byte, which a prompt cannot hold; remove it", path, i + 2);
  return lines;
}

// Reads the requests.
void read_inputfile(const char *path, int max_token_len, int max_seq_len, Requests *requests) {
  std::string content;
  build_requests(requests, read_prompts(path, &content), max_token_len, max_seq_len);
  printf("Num requests: %d\n", requests->num_reqs);
  fflush(stdout);
}

// Opens the output for writing, so that a path that cannot be written is known before the work starts. What the file
// holds stays until write_outputfile has something to replace it with. Returns the file descriptor.
int open_outputfile(const char *path, const char *input_path) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) fatal("%s: cannot write the output file: %s", path, strerror(errno));
  struct stat out, in;
  if (fstat(fd, &out) == 0 && stat(input_path, &in) == 0 && out.st_dev == in.st_dev && out.st_ino == in.st_ino)
    fatal("%s: input (-i) and output (-o) are the same file; choose another output", path);
  return fd;
}

// Writes all of `text` to fd and closes it; 0 or an errno. A regular file gets its room first and its new content then:
// on a full disk its old content stays.
int replace_content(int fd, const std::string &text) {
  struct stat status;
  if (fstat(fd, &status) != 0) return errno;
  const bool regular = S_ISREG(status.st_mode);
  if (regular) {
    const int error = posix_fallocate(fd, 0, (off_t)text.size());
    if (error != 0) {
      if (ftruncate(fd, status.st_size) != 0) return errno;
      return error;
    }
  }
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = write(fd, text.data() + done, text.size() - done);
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0) done += (size_t)count;
  }
  if (regular && ftruncate(fd, (off_t)text.size()) != 0) return errno;
  return close(fd) == 0 ? 0 : errno;
}

// Writes the generated tokens to fd, which it closes. If that fails, the results go to stdout, so that they are not
// lost, and the program ends.
void write_outputfile(int fd, const char *path, Requests *requests) {
  std::string text;
  for (int i = 0; i < requests->num_reqs; i++) {
    const int *row = get_tok_gen_ptr(requests, i);
    for (int j = 0; j < requests->max_seq_len && row[j] >= 0; j++) {
      if (j > 0) text += ' ';
      text += std::to_string(row[j]);
    }
    text += '\n';
  }
  const int error = replace_content(fd, text);
  if (error != 0) {
    fwrite(text.data(), 1, text.size(), stdout);
    fatal("%s: cannot write the output file: %s; the results are on stdout instead", path, strerror(error));
  }
}

// Mode requests: writes the requests of an input file to another, in one form whatever the first one's: the number in
// plain digits, CRLF at every end of a line (LF alone would take a CR that ends a prompt for a part of the line end).
void copy_requests(const char *input_path, const char *output_path) {
  std::string content;
  const std::vector<std::string_view> prompts = read_prompts(input_path, &content);
  std::string text = std::to_string(prompts.size()) + "\r\n";
  for (std::string_view prompt : prompts) text.append(prompt).append("\r\n");
  const int error = replace_content(open_outputfile(output_path, input_path), text);
  if (error != 0) fatal("%s: cannot write the output file: %s", output_path, strerror(error));
}

void warm_up(Transformer *transformer, Tokenizer *tokenizer);
long long inference(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, Requests *requests);
void finish(Transformer *transformer, Tokenizer *tokenizer);

// The graded run; steps is 1..seq_len. All that can be wrong with the files is found before warm_up.
void getp(Transformer *transformer, Tokenizer *tokenizer, Sampler *sampler, char *input_filename, char *output_filename,
          int steps) {
  signal(SIGPIPE, SIG_IGN);  // a reader of stdout that goes away must not cost the results
  Requests requests;
  read_inputfile(input_filename, tokenizer->max_token_length, steps, &requests);
  const int output = open_outputfile(output_filename, input_filename);

  long start = time_in_ms();
  warm_up(transformer, tokenizer);
  long end = time_in_ms();
  printf("\nwarm up elapsed time(s): %f\n", (double)(end - start) / 1000);
  fflush(stdout);

  start = time_in_ms();
  const long long generated = inference(transformer, tokenizer, sampler, &requests);
  end = time_in_ms();
  // The clock ticks in milliseconds; a run within one tick counts as one.
  printf("\nelapsed time(s): %f, achieved throughput TPS (tok/s): %f\n", (double)(end - start) / 1000,
         (double)generated * 1000 / (double)std::max(end - start, 1L));
  fflush(stdout);

  write_outputfile(output, output_filename, &requests);

  start = time_in_ms();
  finish(transformer, tokenizer);
  end = time_in_ms();
  printf("\nfinish elapsed time(s): %f\n", (double)(end - start) / 1000);
  fflush(stdout);
  free_requests(&requests);
}

#endif  // GETP_EVAL
