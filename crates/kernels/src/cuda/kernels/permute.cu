// Tokens sorted by expert, in order of position within one, and the tiles of the products over them. Counted, scanned and
// placed without atomics on order: the same list every time.
#include "common.cuh"

/// Tokens that a block counts.
constexpr int CHUNK = 256;

/// Adds this chunk's tokens to `taken` [experts], in order; calls `place(token, position)` for each that goes somewhere.
template <class Place> DEVICE void count_chunk(const int *expert, int tokens, int *taken, Place place) {
    // One warp: the others wait at the caller's barrier.
    if (warp_index() != 0) return;
    int begin = int(blockIdx.x) * CHUNK, end = begin + CHUNK < tokens ? begin + CHUNK : tokens;
    for (int first = begin; first < end; first += WARP) {
        int token = first + lane_index();
        int mine = token < end ? expert[token] : -1;
        unsigned same = warp_match(mine);
        int position = count_bits(same & ((1u << lane_index()) - 1u));
        if (mine >= 0) place(token, taken[mine] + position);
        warp_sync();
        if (mine >= 0 && first_bit(same) == lane_index()) taken[mine] += count_bits(same);
        warp_sync();
    }
}

/// `counts` [chunks, experts]: tokens of each expert in each chunk. Shared: experts ints.
KERNEL permute_count(const int *expert, int tokens, int experts, int *counts) {
    SHARED(int, taken);
    for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) taken[e] = 0;
    block_sync();
    count_chunk(expert, tokens, taken, [](int, int) {});
    block_sync();
    for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) {
        counts[(long long)blockIdx.x * experts + e] = taken[e];
    }
}

/// The sum of the values of lower lanes; `total` of all.
DEVICE int warp_before(int value, int &total) {
    int sum = value;
    for (int step = 1; step < WARP; step *= 2) {
        int other = warp_read(sum, lane_index() - step < 0 ? 0 : lane_index() - step);
        if (lane_index() >= step) sum += other;
    }
    total = warp_read(sum, WARP - 1);
    return sum - value;
}

/// From counts to where each chunk's tokens of each expert begin (in place), `offsets` [experts + 1], and `tiles`
/// [max_tiles, 3] of up to `tile_rows` rows (expert, first row, rows), the rest -1. One block. Shared: 2 · experts ints.
KERNEL permute_scan(int *counts, int chunks, int experts, int tile_rows, int max_tiles, int *offsets, int *tiles) {
    SHARED(int, totals);
    int *tile_starts = totals + experts;
    for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) {
        int sum = 0;
        for (int c = 0; c < chunks; c++) sum += counts[(long long)c * experts + e];
        totals[e] = sum;
    }
    block_sync();
    if (warp_index() == 0) {
        int rows = 0, used = 0;
        for (int first = 0; first < experts; first += WARP) {
            int e = first + lane_index(), all_rows, all_tiles;
            int count = e < experts ? totals[e] : 0;
            int before = warp_before(count, all_rows);
            int tiles_before = warp_before((count + tile_rows - 1) / tile_rows, all_tiles);
            if (e < experts) offsets[e] = rows + before, tile_starts[e] = used + tiles_before;
            rows += all_rows;
            used += all_tiles;
        }
        if (lane_index() == 0) offsets[experts] = rows;
        for (int t = used + lane_index(); t < max_tiles; t += WARP) {
            tiles[t * 3] = -1, tiles[t * 3 + 1] = 0, tiles[t * 3 + 2] = 0;
        }
    }
    block_sync();
    for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) {
        int start = offsets[e];
        for (int row = 0, t = tile_starts[e]; row < totals[e]; row += tile_rows, t++) {
            tiles[t * 3] = e;
            tiles[t * 3 + 1] = start + row;
            tiles[t * 3 + 2] = totals[e] - row < tile_rows ? totals[e] - row : tile_rows;
        }
        for (int c = 0; c < chunks; c++) {
            int count = counts[(long long)c * experts + e];
            counts[(long long)c * experts + e] = start;
            start += count;
        }
    }
}

/// `order`: the token at each place of the list. Shared: experts ints.
KERNEL permute_place(const int *expert, const int *starts, int tokens, int experts, int *order) {
    SHARED(int, taken);
    for (int e = int(threadIdx.x); e < experts; e += int(blockDim.x)) {
        taken[e] = starts[(long long)blockIdx.x * experts + e];
    }
    block_sync();
    count_chunk(expert, tokens, taken, [&](int token, int position) { order[position] = token; });
}
